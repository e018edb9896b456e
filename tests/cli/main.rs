//! The command line, to the letter where a user reads it. No GPU and no simulator is needed
//! except where a module says so.

mod broken_demo;
mod codec;
mod docs;
mod env;
mod library;
mod run;
mod stat;

use std::process::{Command, Output};

/// The command in an environment without anything of ours, and without a driver.
fn coldpress(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coldpress"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = name.starts_with("COLDPRESS_") || name.ends_with("ALLOC_CONF");
        if ours || name.starts_with("CUDA_MPS") || name.contains("XLA_") {
            command.env_remove(&*name);
        }
    }
    command.env_remove("LD_PRELOAD").env("COLDPRESS_REAL_LIBCUDA", "/nonexistent/libcuda.so.1");
    command.args(args);
    command
}

/// Runs a command to its end. A file that was just copied may still be open for writing in the
/// child of another test between its fork and its exec; that passes.
fn output(command: &mut Command) -> Output {
    for _ in 0..200 {
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            result => return result.expect("the command starts"),
        }
    }
    panic!("the program stays busy: {command:?}")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
