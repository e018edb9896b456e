//! `coldpress run`: sets the environment and becomes the program.

use super::{Failure, Result, args, elf, locate, real, say};
use coldpress::config::{self, table::OPTIONS};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub fn run(args: args::Run) -> Result {
    let options = options(&args)?;
    let mut program = args.program.into_iter();
    let Some(name) = program.next() else { return Err(Failure::usage("no program")) };
    let mut command = Command::new(&name);
    command.args(program);
    for (key, value) in options {
        command.env(key, value);
    }
    match real::find() {
        Ok(_) => {
            command.env("LD_PRELOAD", preload(&locate::library()?)?);
            warn_if_ignored(Path::new(&name));
        }
        Err(why) => say(&format!("no CUDA driver, running without coldpress: {why}")),
    }
    Err(Failure::usage(format!("cannot run {}: {}", name.display(), command.exec())))
}

/// The options given as arguments, as variables. What is typed here is checked here: unlike a
/// variable that has been in a job script for years, it can be put right at once.
fn options(args: &args::Run) -> Result<Vec<(String, String)>> {
    let mut pairs = args.conf.join(",");
    for (key, value) in [("limit", &args.limit), ("mode", &args.mode)] {
        if let Some(value) = value {
            pairs.push_str(&format!(",{key}:{value}"));
        }
    }
    let loaded = config::Loaded::from_variables(vec![("COLDPRESS_CONF".to_owned(), pairs)]);
    match loaded.warnings.first() {
        Some(wrong) => Err(Failure::usage(wrong)),
        None => Ok(OPTIONS
            .iter()
            .zip(loaded.settings)
            .filter(|(_, setting)| setting.origin != config::Origin::Default)
            .map(|(option, setting)| (option.env.to_owned(), setting.value))
            .collect()),
    }
}

/// `LD_PRELOAD` with `library` first and whatever else was there after it.
pub fn preload(library: &Path) -> Result<OsString> {
    if library.as_os_str().as_bytes().iter().any(|b| matches!(b, b' ' | b':' | b'\t' | b'\n')) {
        // The loader splits at these and has no way to quote them.
        return Err(Failure::usage(format!(
            "LD_PRELOAD cannot hold {:?}: move it to a path without spaces and colons",
            library
        )));
    }
    let mut value = library.as_os_str().to_owned();
    let before = env::var_os("LD_PRELOAD").unwrap_or_default();
    let others = before.as_bytes().split(|b| b" :\t\n".contains(b));
    for other in others.filter(|o| !o.is_empty() && *o != library.as_os_str().as_bytes()) {
        value.push(":");
        value.push(OsStr::from_bytes(other));
    }
    Ok(value)
}

/// The loader drops `LD_PRELOAD` for some programs, without a word.
fn warn_if_ignored(name: &Path) {
    let Some(path) = locate::program(name) else { return };
    let why = if elf::Elf::open(&path).is_some_and(|e| !e.is_dynamic()) {
        "is linked statically"
    } else if path.metadata().is_ok_and(|m| m.permissions().mode() & 0o6000 != 0) {
        "is setuid or setgid"
    } else {
        return;
    };
    say(&format!("{} {why}: it will run without coldpress", path.display()));
}
