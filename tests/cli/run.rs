//! `coldpress run` where there is no driver, and what is refused before anything starts.

use super::{coldpress, output, stderr, stdout};

#[test]
fn without_a_driver_the_program_runs_as_it_is() {
    let out = output(&mut coldpress(&["run", "--", "sh", "-c", "echo ${LD_PRELOAD-none}; exit 7"]));
    assert_eq!(out.status.code(), Some(7), "the exit code is the program's");
    assert_eq!(stdout(&out), "none\n");
    assert_eq!(
        stderr(&out),
        "coldpress: no CUDA driver, running without coldpress: /nonexistent/libcuda.so.1: \
         cannot open shared object file: No such file or directory\n"
    );
}

#[test]
fn the_pid_is_the_programs() {
    let mut child = coldpress(&["run", "sh", "-c", "echo $$"]);
    let child = child.stdout(std::process::Stdio::piped()).spawn().expect("starts");
    let pid = child.id();
    let out = child.wait_with_output().expect("ends");
    assert_eq!(stdout(&out).trim(), pid.to_string());
}

#[test]
fn options_become_variables_and_win() {
    let mut command = coldpress(&[
        "run",
        "--conf=torture:on,mode:active",
        "--conf",
        "verify:restore",
        "--limit=1GiB",
        "--mode",
        "trace",
        "sh",
        "-c",
        "echo $COLDPRESS_TORTURE $COLDPRESS_MODE $COLDPRESS_VERIFY $COLDPRESS_LIMIT",
    ]);
    let out = output(command.env("COLDPRESS_LIMIT", "2GiB").env("COLDPRESS_MODE", "rescue"));
    assert_eq!(stdout(&out), "on trace restore 1GiB\n");
}

#[test]
fn what_is_typed_wrong_is_refused() {
    for (args, text) in [
        (&["--conf", "limti:1G"][..], "unknown option limti; nearest is limit"),
        (
            &["--mode", "rehearse"],
            "mode:rehearse is not available in this version; mode:rescue stays",
        ),
        (&["--conf", "oversubscribe:on"], "oversubscribe is not available in this version"),
        (
            &["--limit", "lots"],
            "limit takes a size (40GiB) or a share of the card (70%), not \"lots\"; limit:100% stays",
        ),
    ] {
        let args: Vec<&str> = ["run"].iter().chain(args).chain(&["true"]).copied().collect();
        let out = output(&mut coldpress(&args));
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert_eq!(stderr(&out), format!("coldpress: {text}\n"));
    }
    assert_eq!(output(&mut coldpress(&["run"])).status.code(), Some(2));
}

#[test]
fn a_program_that_is_not_there() {
    let out = output(&mut coldpress(&["run", "no-such-program"]));
    assert_eq!(out.status.code(), Some(2));
    let text = stderr(&out);
    let last = text.lines().last();
    assert_eq!(
        last,
        Some("coldpress: cannot run no-such-program: No such file or directory (os error 2)")
    );
}
