//! The command line with the library that was built and the simulated driver.

use super::{coldpress, output, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that the build puts beside the command.
fn beside(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_coldpress")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run cargo build first", path.display());
    path
}

/// The command on the simulated driver.
fn simulated(args: &[&str]) -> Command {
    let mut command = coldpress(args);
    command.env("COLDPRESS_REAL_LIBCUDA", beside("libsimcuda.so"));
    command
}

#[test]
fn run_preloads_and_keeps_what_was_there() {
    let library = beside("libcoldpress.so");
    let mut command = simulated(&["run", "sh", "-c", "echo $LD_PRELOAD"]);
    let out = output(command.env("LD_PRELOAD", "libc.so.6"));
    assert_eq!(stdout(&out), format!("{}:libc.so.6\n", library.display()));
    assert_eq!(stderr(&out), "", "a program without CUDA hears nothing");
    // From a shell that runs under coldpress: not twice, and no complaint.
    let inner = format!("{} run sh -c 'echo $LD_PRELOAD'", env!("CARGO_BIN_EXE_coldpress"));
    let out = output(&mut simulated(&["run", "sh", "-c", &inner]));
    assert_eq!(stdout(&out), format!("{}\n", library.display()));
    assert_eq!(stderr(&out), "");
}

#[test]
fn doctor_finds_everything_in_order() {
    let out = output(&mut simulated(&["doctor", "--json"]));
    let document: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let checks = document["checks"].as_array().expect("checks");
    for name in ["driver", "devices", "memory", "library", "preload"] {
        let check = checks.iter().find(|c| c["name"] == name).expect(name);
        assert_eq!(check["status"], "ok", "{check}");
    }
    assert!(out.status.success());
}
