//! The program on the simulated driver: its digest depends on data, seed and scale only, whatever
//! order the streams run in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coldpress-demo-program");

/// A folder where the loader finds the simulator under the driver's name.
fn driver_folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{test}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    std::os::unix::fs::symlink(simulator(), folder.join("libcuda.so.1")).expect("a link");
    folder
}

/// The simulator this test was built with: cargo puts it beside the test's own binary.
fn simulator() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let deps = own.parent().expect("a folder");
    let library = deps.join("libsimcuda.so");
    assert!(library.is_file(), "{} is missing", library.display());
    library
}

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--json", "--scale", "0.05"]).args(args).env_remove("COLDPRESS_CORPUS");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SIMCUDA_") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", folder).stdin(Stdio::null());
    command
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {errors}");
    String::from_utf8(stdout).expect("text")
}

/// The value of a field in one line of the program's JSON.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!("\"{name}\":"))?.1;
    rest.split([',', '}']).next().map(|value| value.trim_matches('"'))
}

fn digests(output: &str) -> Vec<String> {
    output.lines().filter_map(|l| field(l, "digest")).map(str::to_owned).collect()
}

fn with_streams(folder: &Path, mode: impl AsRef<OsStr>, args: &[&str]) -> Vec<String> {
    digests(&succeed(program(folder, args).env("SIMCUDA_STREAMS", mode)))
}

#[test]
fn the_order_of_streams_changes_nothing() {
    let folder = driver_folder("streams");
    let expected = with_streams(&folder, "eager", &[]);
    assert_eq!(expected.len(), 7, "six phases and the whole run");
    for mode in ["async", "async", "lazy", "random:1", "random:2"] {
        assert_eq!(with_streams(&folder, mode, &[]), expected, "streams {mode}");
    }
}

#[test]
fn the_host_never_touches_device_memory() {
    let folder = driver_folder("strict");
    let expected = digests(&succeed(&mut program(&folder, &[])));
    let strict = digests(&succeed(program(&folder, &[]).env("SIMCUDA_STRICT", "1")));
    assert_eq!(strict, expected);
}

#[test]
fn the_seed_changes_the_work_and_nothing_is_left_behind() {
    let folder = driver_folder("seed");
    let first = with_streams(&folder, "async", &["--seed", "1"]);
    assert_ne!(first, with_streams(&folder, "async", &["--seed", "2"]));
    let report = folder.join("report.json");
    succeed(program(&folder, &[]).env("SIMCUDA_REPORT", &report));
    let report: String =
        std::fs::read_to_string(report).expect("a report").split_whitespace().collect();
    for what in ["handles", "mappings", "streams", "events", "host_allocations", "allocations"] {
        let leaks = report.split_once("\"leaks\":").expect("leaks").1;
        assert_eq!(field(leaks, what), Some("0"), "{what}: {report}");
    }
    assert!(report.contains("\"faults\":[]"), "{report}");
}

#[test]
fn files_of_any_size_will_do() {
    let folder = driver_folder("files");
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("deeper")).expect("a folder");
    let noise = |n: usize| (0..n).map(|i| ((i * i) >> 3) as u8).collect::<Vec<u8>>();
    for (name, bytes) in [("empty", 0), ("one", 1), ("odd", 12_345), ("deeper/long", 1 << 20)] {
        std::fs::write(data.join(name), noise(bytes)).expect("a file");
    }
    let path = data.to_str().expect("text");
    let output = succeed(&mut program(&folder, &["--data", path, "--max-bytes", "500K"]));
    let last = output.lines().last().expect("a line");
    assert_eq!(field(last, "data_bytes"), Some("512000"));
    let footprint: u64 =
        field(last, "footprint_bytes").and_then(|f| f.parse().ok()).expect("a number");
    let peak: u64 =
        field(last, "simulator_peak_bytes").and_then(|f| f.parse().ok()).expect("a number");
    assert!(peak >= footprint, "{last}");
}

#[test]
fn errors_are_one_line() {
    let folder = driver_folder("errors");
    let fail = |command: &mut Command, words: &[&str]| {
        let output = command.output().expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let lines: Vec<&str> =
            errors.lines().filter(|l| !l.contains("tensors are generated")).collect();
        assert_eq!(lines.len(), 1, "{errors}");
        assert!(words.iter().all(|w| lines[0].contains(w)), "{errors}");
    };
    fail(&mut program(&folder, &["--data", "/does/not/exist"]), &["/does/not/exist"]);
    fail(program(&folder, &[]).env("LD_LIBRARY_PATH", "/does/not/exist"), &["libcuda.so.1"]);
    let fault = "cuLaunchKernel:20=700";
    fail(program(&folder, &[]).env("SIMCUDA_FAIL", fault), &["launch", "ILLEGAL_ADDRESS"]);
    fail(program(&folder, &[]).env("SIMCUDA_BUDGET", "8MiB"), &["allocate", "OUT_OF_MEMORY"]);
}

#[test]
fn waits_for_its_parent_between_phases() {
    use std::io::{BufRead, BufReader, Write};
    let folder = driver_folder("step");
    let mut child = program(&folder, &["--step", "--phases", "load,churn"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut input = child.stdin.take().expect("a pipe");
    for phase in ["load", "churn"] {
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(field(&line, "phase"), Some(phase));
        assert!(child.try_wait().expect("a status").is_none(), "it did not wait");
        input.write_all(b"\n").expect("it listens");
    }
    assert!(lines.next().is_some(), "the line at the end");
    assert!(child.wait().expect("a status").success());
}
