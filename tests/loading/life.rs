//! Start, fork, exit and failure: the program never notices more than it must.

use crate::support::{Run, program};
use std::time::Duration;

const OPEN: &str = "open:libcuda.so.1";

fn probe() -> Run {
    Run::preloaded(&program("probe")).arg(OPEN)
}

fn introductions(stderr: &str) -> usize {
    stderr.lines().filter(|line| line.starts_with("coldpress 0.")).count()
}

#[test]
fn the_start_and_the_end_are_said_once() {
    let outcome = probe().args(["init", "init", "version"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\ninit 0\nversion 0 13000\n");
    assert_eq!(introductions(&outcome.stderr), 1, "{}", outcome.stderr);
    let [end] = outcome.said()[..] else { panic!("{outcome:#?}") };
    assert!(end.starts_with("no help was needed"), "{end}");
    assert_eq!(outcome.calls("cuInit"), 2);
}

#[test]
fn a_program_without_cuda_sees_nothing() {
    let outcome = Run::preloaded(&program("probe")).outcome().well();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn a_failed_start_is_no_start() {
    let outcome = probe().env("SIMCUDA_DEVICES", "0").arg("init").outcome().well();
    assert_eq!(outcome.stdout, "init 100\n");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn disabled_means_as_without() {
    let ops =
        ["proc:cuMemAlloc@12000", "proc:cuGetProcAddress@12000", "init", "call:cuGraphCreate"];
    let with = probe().env("COLDPRESS_DISABLE", "1").args(ops).outcome().well();
    let without = Run::new(&program("probe")).arg(OPEN).args(ops).outcome().well();
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.stderr, "");
    let calls = |report: Option<serde_json::Value>| {
        let mut calls = report.expect("a report")["calls"].take();
        // Asked once, at the very first call.
        calls.as_object_mut().expect("calls").remove("cuDriverGetVersion");
        calls
    };
    assert_eq!(calls(with.report), calls(without.report));
}

#[test]
fn strict_says_why_it_does_nothing() {
    let run = probe().env("COLDPRESS_STRICT", "1").env("COLDPRESS_CONF", "limti:1G");
    let outcome = run.args(["init", "proc:cuMemAlloc@12000"]).outcome().well();
    assert!(!outcome.stdout.contains("libcoldpress.so"), "{outcome:#?}");
    let why = "off: COLDPRESS_STRICT: unknown option limti; nearest is limit";
    assert_eq!(outcome.said(), [why]);
}

#[test]
fn the_child_of_a_fork_has_no_cuda_and_says_nothing() {
    let ops = ["init", "fork", "init", "call:cuCtxGetFlags", "call:cuMemGetInfo_v2"];
    let ops = [&ops[..], &["call:cuGraphCreate", "end", "init"]].concat();
    let with = probe().args(&ops).outcome().well();
    let without = Run::new(&program("probe")).arg(OPEN).args(&ops).outcome().well();
    assert_eq!(with.stdout, without.stdout);
    assert!(with.stdout.contains("cuMemGetInfo_v2 3\n"), "{}", with.stdout);
    assert_eq!(introductions(&with.stderr), 1);
    assert_eq!(with.said().len(), 1, "{}", with.stderr);
    assert!(!with.stderr.contains("eviction off"), "{}", with.stderr);
}

#[test]
fn a_child_forked_before_the_start_starts_by_itself() {
    let ops = ["version", "fork", "init", "end", "init"];
    let outcome = probe().args(ops).outcome().well();
    assert_eq!(outcome.stdout, "version 0 13000\ninit 0\nchild exit 0\ninit 0\n");
    assert_eq!(introductions(&outcome.stderr), 2, "{}", outcome.stderr);
    assert_eq!(outcome.said().len(), 2, "{}", outcome.stderr);
}

#[test]
fn exit_from_another_thread_while_others_call() {
    for _ in 0..5 {
        let run = probe().timeout(Duration::from_secs(30));
        let outcome = run.args(["init", "context", "parallel:3"]).outcome().well();
        assert_eq!(outcome.stdout, "init 0\ncontext 0\n");
        assert_eq!(outcome.said().len(), 1, "{}", outcome.stderr);
    }
}

#[test]
fn exit_from_another_thread_while_memory_moves() {
    for _ in 0..5 {
        let run = probe().timeout(Duration::from_secs(30)).env("COLDPRESS_TORTURE", "on");
        let outcome = run.args(["init", "context", "parallel:3"]).outcome().well();
        assert_eq!(outcome.stdout, "init 0\ncontext 0\n");
        let end = outcome.said().last().copied().unwrap_or_default();
        assert!(end.contains("moved"), "{}", outcome.stderr);
    }
}

#[test]
fn a_driver_that_shuts_down_ends_management() {
    let run = probe().env("SIMCUDA_FAIL", "cuMemGetInfo_v2:1=4");
    let ops = ["init", "context", "call:cuMemGetInfo_v2", "call:cuMemGetInfo_v2", "version"];
    let outcome = run.args(ops).outcome().well();
    assert!(outcome.stdout.contains("cuMemGetInfo_v2 4\n"), "{outcome:#?}");
    assert!(outcome.stdout.ends_with("version 0 13000\n"), "{outcome:#?}");
    assert_eq!(outcome.said().len(), 1, "{}", outcome.stderr);
}

/// Panics at each of the first real calls of a program whose memory is evicted after every step.
#[test]
fn a_panic_anywhere_costs_no_byte() {
    let program = program("bytes");
    for place in ["before", "after"] {
        for n in 1..=10 {
            let run = Run::preloaded(&program).env("COLDPRESS_TORTURE", "on");
            let run = run.env("TEST_COLDPRESS_PANIC", format!("{place}:{n}"));
            let outcome = run.timeout(Duration::from_secs(60)).outcome().well();
            assert_eq!(outcome.stdout, "equal 4 freed 4\n", "{place}:{n}: {}", outcome.stderr);
            let faults = outcome.stderr.matches("managing nothing new").count();
            assert_eq!(faults, 1, "{place}:{n}: {}", outcome.stderr);
            let used = &outcome.report.as_ref().expect("a report")["leaks"]["allocations"];
            assert_eq!(used.as_u64(), Some(0), "{place}:{n}");
        }
    }
}

#[test]
fn a_panic_before_the_call_makes_it_once() {
    let run = probe().env("TEST_COLDPRESS_PANIC", "before");
    let outcome = run.args(["init", "version", "proc:cuMemAlloc@12000"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\nversion 0 13000\nproc cuMemAlloc 0 libcoldpress.so\n");
    assert_eq!(outcome.calls("cuInit"), 1);
    frozen(&outcome.stderr, "cuInit");
}

#[test]
fn a_panic_after_the_call_returns_its_result() {
    let run = probe().env("TEST_COLDPRESS_PANIC", "after");
    let outcome = run.args(["init", "version"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\nversion 0 13000\n");
    assert_eq!(outcome.calls("cuInit"), 1);
    frozen(&outcome.stderr, "cuInit");
}

#[test]
fn a_panic_in_the_resolver_leaves_its_answer() {
    let run = probe().env("TEST_COLDPRESS_PANIC", "after");
    let outcome = run.args(["proc:cuMemAlloc@12000", "proc:cuMemFree@12000"]).outcome().well();
    // The first answer is the driver's own, made once; the second is ours again.
    let ours = "proc cuMemFree 0 libcoldpress.so\n";
    assert!(outcome.stdout.starts_with("proc cuMemAlloc 0 "), "{outcome:#?}");
    assert!(outcome.stdout.ends_with(ours), "{outcome:#?}");
    frozen(&outcome.stderr, "cuGetProcAddress_v2");
}

#[track_caller]
fn frozen(stderr: &str, place: &str) {
    let line = format!("coldpress: a fault in {place}: managing nothing new from here on");
    let said = stderr.lines().filter(|l| l.starts_with(&line)).count();
    assert_eq!(said, 1, "{stderr}");
}
