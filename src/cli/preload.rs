//! `LD_PRELOAD`: putting the library in front, and taking it off this command itself.

use super::{Failure, Result, real};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `LD_PRELOAD` with `library` first and whatever else was there after it.
pub fn first(library: &Path) -> Result<OsString> {
    if library.as_os_str().as_bytes().iter().any(separates) {
        // The loader splits at these and has no way to quote them.
        return Err(Failure::usage(format!(
            "LD_PRELOAD cannot hold {library:?}: move it to a path without spaces and colons"
        )));
    }
    let before = env::var_os("LD_PRELOAD").unwrap_or_default();
    Ok(joined(Some(library.as_os_str()).into_iter().chain(without(&before, library))))
}

/// Starts this command anew without the library if it was preloaded into it, as happens in a
/// shell that itself runs under coldpress. A command that asks about the real driver must not
/// get coldpress for an answer.
pub fn leave() {
    let Some(library) = real::loaded_coldpress() else { return };
    let before = env::var_os("LD_PRELOAD").unwrap_or_default();
    let rest = joined(without(&before, &library));
    let (Ok(command), true) = (env::current_exe(), rest != before) else { return };
    let mut command = Command::new(command);
    command.args(env::args_os().skip(1)).env("LD_PRELOAD", rest);
    // Only returns on failure; then the command goes on as it is.
    let _ = command.exec();
}

fn separates(byte: &u8) -> bool {
    b" :\t\n".contains(byte)
}

/// The entries of `list` that are not `library` by whatever path.
fn without<'a>(list: &'a OsStr, library: &'a Path) -> impl Iterator<Item = &'a OsStr> {
    let same = move |entry: &OsStr| {
        let path = Path::new(entry);
        path == library
            || path.canonicalize().is_ok_and(|p| library.canonicalize().is_ok_and(|l| p == l))
    };
    let entries = list.as_bytes().split(separates).filter(|e| !e.is_empty());
    entries.map(OsStr::from_bytes).filter(move |e| !same(e))
}

fn joined<'a>(entries: impl Iterator<Item = &'a OsStr>) -> OsString {
    entries.fold(OsString::new(), |mut list, entry| {
        if !list.is_empty() {
            list.push(":");
        }
        list.push(entry);
        list
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_entries_stay_in_order() {
        let library = Path::new("/opt/coldpress/libcoldpress.so");
        let list = OsStr::new("/a.so /opt/coldpress/libcoldpress.so::/b.so");
        assert_eq!(joined(without(list, library)), "/a.so:/b.so");
        assert_eq!(joined(without(OsStr::new(""), library)), "");
    }

    #[test]
    fn a_path_the_loader_would_split_is_refused() {
        assert!(first(Path::new("/my files/libcoldpress.so")).is_err());
    }
}
