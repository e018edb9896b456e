//! `coldpress run`: sets the environment and becomes the program.

use super::{Failure, Result, args, elf, locate, preload, real, say};
use coldpress::config::{self, table::OPTIONS};
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
            command.env("LD_PRELOAD", preload::first(&locate::library()?)?);
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
