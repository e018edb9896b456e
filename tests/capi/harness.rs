//! Compiles C and C++ programs and runs them with the library, the simulated driver, both or
//! neither.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest build of a library of this workspace: tests are built beside it, and `cargo build`
/// copies it one folder up.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let deps = test.parent().expect("a folder");
    let places = [deps.join(name), deps.with_file_name(name)];
    let modified = |path: &&PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let newest = places.iter().filter(|p| p.exists()).max_by_key(modified);
    newest.unwrap_or_else(|| panic!("{name} is missing: run cargo build first")).clone()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/capi")
}

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder.join(name)
}

/// A file of this test's own, which does not exist yet.
pub fn fresh(name: &str) -> PathBuf {
    let path = temporary(&format!("{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Compiles sources of this folder to one program; warnings are errors.
pub fn compile(name: &str, files: &[&str]) -> PathBuf {
    // Tests run side by side and some use the same program.
    let program = fresh(&format!("{name}-{:?}", std::thread::current().id()));
    let mut objects = Vec::new();
    for file in files {
        let (compiler, standard) =
            if file.ends_with(".c") { ("gcc", "-std=c11") } else { ("g++", "-std=c++17") };
        let object = program.with_extension(format!("{}.o", file.replace('.', "-")));
        let mut command = Command::new(compiler);
        command.args([standard, "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"]);
        command.args(["-Wshadow", "-D_POSIX_C_SOURCE=200809L", "-pthread", "-c"]);
        command.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
        command.arg(sources().join(file)).arg("-o").arg(&object);
        run(&mut command);
        objects.push(object);
    }
    run(Command::new("g++").arg("-pthread").args(&objects).arg("-o").arg(&program).arg("-ldl"));
    program
}

/// Runs a command to its end; what it wrote to stderr. Fails when it fails.
pub fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}: {}\n{text}", out.status);
    text
}

/// A program where there is neither a driver nor the library.
pub fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("COLDPRESS_") || text.starts_with("SIMCUDA_") {
            command.env_remove(&name);
        }
    }
    command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
    command
}

/// A program that finds the simulated driver under the driver's name: one card of 256 MiB.
pub fn driver(program: &Path) -> Command {
    let folder = temporary(&format!("driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // Another test may have made it in this moment.
    let _ = std::os::unix::fs::symlink(built("libsimcuda.so"), folder.join("libcuda.so.1"));
    let mut command = bare(program);
    command.env("LD_LIBRARY_PATH", folder);
    command.env("SIMCUDA_MEMORY", "256MiB").env("SIMCUDA_GRANULARITY", "64KiB");
    command
}

/// As [`driver`], with the library preloaded and this configuration.
pub fn coldpress(program: &Path, conf: &str) -> Command {
    let mut command = driver(program);
    command.env("LD_PRELOAD", built("libcoldpress.so"));
    command.env("COLDPRESS_CONF", conf).env("COLDPRESS_VERBOSE", "0");
    command
}
