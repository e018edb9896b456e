//! Where the parts of coldpress are: beside the command when built or unpacked, under
//! `../lib/coldpress` when installed.

use super::{Failure, Result};
use std::env;
use std::path::{Path, PathBuf};

/// Folders that may hold our files.
fn folders() -> Vec<PathBuf> {
    let Ok(command) = env::current_exe() else { return Vec::new() };
    let Some(folder) = command.parent() else { return Vec::new() };
    let mut folders = vec![folder.to_path_buf()];
    if let Some(prefix) = folder.parent() {
        folders.push(prefix.join("lib/coldpress"));
        folders.push(prefix.join("libexec/coldpress"));
    }
    // A test or example binary lives in target/<profile>/deps.
    if folder.ends_with("deps") {
        folders.extend(folder.parent().map(Path::to_path_buf));
    }
    folders
}

/// One of our files by name.
pub fn find(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|f| f.join(name)).find(|p| p.is_file())
}

/// One of our files that a command cannot do without.
pub fn need(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| {
        let looked: Vec<String> = folders().iter().map(|f| f.display().to_string()).collect();
        Failure::usage(format!("cannot find {name}; looked in {}", looked.join(", ")))
    })
}

/// The library to preload.
pub fn library() -> Result<PathBuf> {
    let path = match env::var_os("COLDPRESS_LIBRARY") {
        Some(path) => std::path::absolute(PathBuf::from(path)).map_err(Failure::usage)?,
        None => need("libcoldpress.so")
            .map_err(|f| Failure::usage(format!("{}; COLDPRESS_LIBRARY can name it", f.text)))?,
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::usage(format!("COLDPRESS_LIBRARY: no file {}", path.display())))
    }
}

/// The program as a shell would find it.
pub fn program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_path_buf());
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|p| p.is_file())
}
