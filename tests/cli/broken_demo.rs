//! `coldpress demo` when the program misbehaves: each failure is one line and exit code 1. The
//! command is copied into a folder with a script in the program's place.

use super::{output, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A folder with the command, something that passes for a driver, and `script`.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str, script: &str) -> Stage {
        let folder = std::env::temp_dir().join(format!("coldpress-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        fs::copy(env!("CARGO_BIN_EXE_coldpress"), folder.join("coldpress")).expect("copied");
        fs::write(folder.join("libsimcuda.so"), "no library").expect("written");
        let program = folder.join("coldpress-demo-program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("allowed");
        Stage(folder)
    }

    fn last_line(&self) -> String {
        let mut command = Command::new(self.0.join("coldpress"));
        command.args(["demo", "--json"]).env("COLDPRESS_REAL_LIBCUDA", "/nonexistent");
        let out = output(&mut command);
        assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
        assert!(out.stdout.is_empty(), "nothing pretends to be a result");
        stderr(&out).lines().last().unwrap_or("").to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_program_that_fails() {
    let stage = Stage::new("fails", r#"echo '{"phase":"load"}'; exit 3"#);
    assert_eq!(stage.last_line(), "coldpress: the demo program failed: exit status: 3");
}

#[test]
fn a_program_without_a_digest() {
    let stage = Stage::new("mute", r#"echo '{"footprint_bytes":4096}'"#);
    assert_eq!(stage.last_line(), "coldpress: the demo program printed no digest");
}

#[test]
fn a_program_that_coldpress_does_not_reach() {
    let stage = Stage::new(
        "alone",
        r#"echo '{"phase":"load"}'; read line; echo '{"digest":"1","footprint_bytes":4096}'"#,
    );
    assert_eq!(stage.last_line(), "coldpress: the program under coldpress has no statistics page");
}
