//! What the limit means, when freed memory is given out again, and what stays out of the program's
//! way: each program checks itself with the numbers of the C interface.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::{Folder, Outcome, Run, compile};

fn program() -> PathBuf {
    let include = format!("-I{}/include", env!("CARGO_MANIFEST_DIR"));
    compile("budget", "budget", &[&include, "-ldl", "-lpthread"])
}

/// A program of `budget.c` on a card of 256 MiB with granules of 64 KiB.
fn run(name: &str, limit: &str, args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let run = Run::preloaded(&program())
        .arg(name)
        .args(args)
        .env("SIMCUDA_MEMORY", "256MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_LIMIT", limit)
        .timeout(Duration::from_secs(60));
    let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
    let outcome = run.outcome();
    assert!(!outcome.hung && outcome.status.success(), "{name}, {variables:?}: {outcome:#?}");
    let report = outcome.report.as_ref().expect("a report");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(0), "{name}: {report}");
    outcome
}

/// The most that was held, as the simulator counts it.
fn peak(outcome: &Outcome) -> u64 {
    let report = outcome.report.as_ref().expect("a report");
    report["devices"][0]["peak_bytes"].as_u64().expect("bytes")
}

/// The program holds 19 MiB at most and frees 720.
#[test]
fn what_waits_for_streams_is_not_piled_up() {
    for streams in ["async", "eager", "lazy", "random:3"] {
        let done = run("limbo", "256MiB", &[], &[("SIMCUDA_STREAMS", streams)]);
        assert!(peak(&done) <= 64 << 20, "{streams}: {}", peak(&done));
    }
}

/// It holds 63 MiB at most and frees 125.
#[test]
fn what_waits_in_holes_is_not_piled_up() {
    let uncached = ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1");
    for streams in ["async", "lazy"] {
        let done = run("holes", "256MiB", &[], &[("SIMCUDA_STREAMS", streams), uncached]);
        assert!(peak(&done) <= 144 << 20, "{streams}: {}", peak(&done));
    }
}

/// A device that is at work on something long is not waited for at every allocation.
#[test]
fn a_busy_device_is_asked_now_and_then() {
    let done = run("limbo", "256MiB", &["blocked"], &[]);
    assert!((1..=6).contains(&done.calls("cuCtxRecordEvent")), "{done:#?}");
}

#[test]
fn what_a_stream_takes_back_is_not_waited_for() {
    let done = run("cache", "256MiB", &[], &[NEVER_DONE]);
    assert_eq!(done.calls("cuCtxRecordEvent"), 0);
    assert!(peak(&done) <= 24 << 20, "{}", peak(&done));
}

#[test]
fn the_card_is_as_large_as_the_limit() {
    let _ = run("info", "8MiB", &[], &[]);
}

#[test]
fn a_granule_of_nobody_is_behind_every_block() {
    let _ = run("guard", "64MiB", &[], &[]);
}

#[test]
fn an_eighth_is_kept_ready_before_the_first_shortage() {
    let _ = run("ready", "32MiB", &[], &[]);
}

#[test]
fn what_is_ready_goes_before_what_is_alive() {
    let _ = run("order", "8MiB", &[], &[]);
}

/// Streams whose work runs only when somebody waits for it: what was used stays in use.
const NEVER_DONE: (&str, &str) = ("SIMCUDA_STREAMS", "lazy");

#[test]
fn a_freed_range_is_its_own_streams_first() {
    let _ = run("reuse", "64MiB", &[], &[NEVER_DONE, ("COLDPRESS_FREE_SYNC", "off")]);
}

#[test]
fn what_was_freed_goes_before_what_is_alive() {
    let _ = run("freed", "8MiB", &[], &[NEVER_DONE]);
}

#[test]
fn a_new_stream_inherits_nothing() {
    let _ = run("streams", "64MiB", &[], &[NEVER_DONE]);
}

#[test]
fn a_restore_does_not_wait_for_the_default_stream() {
    let _ = run("default", "64MiB", &[], &[]);
}

#[test]
fn one_launch_may_pass_the_limit() {
    let folder = Folder::new();
    let image = folder.join("kernels.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/demo/demo.cu");
    let done = Command::new("c++")
        .args(["-std=c++17", "-O1", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden", "-o"])
        .args([&image, &source])
        .status();
    assert!(done.expect("c++").success());
    let _ = run("exceed", "8MiB", &[&image.to_string_lossy()], &[]);
}
