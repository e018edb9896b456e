//! Small programs around memory behave as on the driver alone: each runs without the library and
//! with it, in several modes, and what it prints is compared line by line.

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::{Outcome, Run, program};

/// The demo's kernels as an image for the simulator.
fn kernels() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let image = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("hooks-kernels-{}.so", std::process::id()));
        let done = Command::new("c++")
            .args(["-std=c++17", "-O1", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden"])
            .arg("-o")
            .args([&image, &root.join("kernels/demo/demo.cu")])
            .status();
        assert!(done.expect("c++").success());
        image
    })
}

/// How the library is run: a name for messages, variables.
const WAYS: &[(&str, &[(&str, &str)])] = &[
    ("as it comes", &[]),
    ("torture", &[("COLDPRESS_TORTURE", "on"), ("SIMCUDA_GRANULARITY", "64KiB")]),
    (
        "torture, lazy streams",
        &[
            ("COLDPRESS_TORTURE", "on"),
            ("SIMCUDA_GRANULARITY", "64KiB"),
            ("SIMCUDA_STREAMS", "lazy:3"),
        ],
    ),
    ("mode:trace", &[("COLDPRESS_MODE", "trace")]),
    ("off", &[("COLDPRESS_DISABLE", "1")]),
];

fn run(preloaded: bool, args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let file = program("memory");
    let run = if preloaded { Run::preloaded(&file) } else { Run::new(&file) };
    let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
    run.args(args).outcome().well()
}

/// Runs a program in every way and compares.
#[track_caller]
fn same_in_every_way(args: &[&str]) {
    same_with(args, &[]);
}

/// As [`same_in_every_way`] with some variables set in every run.
#[track_caller]
fn same_with(args: &[&str], common: &[(&str, &str)]) {
    let plain = run(false, args, common);
    assert!(plain.stdout.lines().count() > 3, "{plain:#?}");
    for (way, variables) in WAYS {
        let with = run(true, args, &[common, variables].concat());
        assert_eq!(with.stdout, plain.stdout, "{args:?}, {way}: {}", with.stderr);
        let report = with.report.as_ref().expect("a report");
        assert_eq!(report["faults"].as_array().map(Vec::len), Some(0), "{args:?}, {way}: {report}");
    }
}

#[test]
fn what_was_copied_down_is_there_when_free_returns() {
    same_in_every_way(&["free"]);
    // With copies that take their time a free that does not wait shows.
    let slow = ("SIMCUDA_STREAMS", "clocked:200,10");
    for (wanted, variables) in [
        (1, &[slow][..]),
        (0, &[slow, ("COLDPRESS_FREE_SYNC", "off")]),
        (0, &[slow, ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")]),
        (1, &[slow, ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"), ("COLDPRESS_FREE_SYNC", "on")]),
    ] {
        let with = run(true, &["free"], variables);
        assert_eq!(with.stdout, format!("free: 0\nsame: {wanted}\n").repeat(4), "{variables:?}");
    }
}

#[test]
fn errors_are_the_drivers() {
    same_in_every_way(&["errors"]);
}

#[test]
fn ranges_are_those_asked_for() {
    same_in_every_way(&["range"]);
}

#[test]
fn attributes_are_answered_alike() {
    same_in_every_way(&["attributes"]);
}

#[test]
fn copies_and_memsets_touch_the_same_bytes() {
    same_in_every_way(&["copies"]);
}

#[test]
fn launches_of_every_form() {
    same_in_every_way(&["launches", &kernels().to_string_lossy()]);
}

#[test]
fn memory_in_stream_order() {
    same_in_every_way(&["ordered"]);
}

#[test]
fn contexts_take_their_memory_along() {
    same_in_every_way(&["contexts"]);
}

#[test]
fn two_cards_see_each_others_memory() {
    let devices = &[("SIMCUDA_DEVICES", "2")];
    same_with(&["peers", &kernels().to_string_lossy()], devices);
}

/// A driver that says nothing about parameters, as before 12.4: everything is resident before the
/// first launch and stays so; results are the same.
#[test]
fn unknown_parameters_turn_eviction_off() {
    let image = kernels().to_string_lossy().into_owned();
    let old: &[(&str, &str)] =
        &[("SIMCUDA_FAIL", "cuFuncGetParamInfo:*=500"), ("COLDPRESS_TORTURE", "on")];
    let plain = run(false, &["launches", &image], old);
    let with = run(true, &["launches", &image], old);
    assert_eq!(with.stdout, plain.stdout);
    let told = with.said().iter().any(|line| line.contains("a launch with unknown parameters"));
    assert!(told, "{with:#?}");
}

#[test]
fn threads_that_allocate_together_get_memory_that_is_there() {
    for (granularity, mode) in [("64KiB", "rescue"), ("2MiB", "rescue"), ("64KiB", "active")] {
        let run = Run::preloaded(&program("crowd"))
            .env("SIMCUDA_MEMORY", "256MiB")
            .env("SIMCUDA_GRANULARITY", granularity)
            .env("COLDPRESS_MODE", mode);
        let outcome = run.outcome().well();
        assert_eq!(outcome.stdout, "wrong: 0\n", "{granularity}, {mode}: {}", outcome.stderr);
    }
}

/// Whoever frees does not wait for a rescue, which may wait for the thread that frees.
#[test]
fn a_free_does_not_wait_for_somebody_elses_rescue() {
    let run = Run::preloaded(&program("busy"))
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_RESTORE_WAIT", "10s")
        .env("COLDPRESS_LIMIT", "9MiB")
        .paused("rescue")
        .args(["10"]);
    let outcome = run.outcome().well();
    assert_eq!(outcome.stdout, "freed: 0, first\nallocated: 0\n", "{}", outcome.stderr);
}
