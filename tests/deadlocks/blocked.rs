//! A stream is blocked by something that only the waiting thread, or one that needs memory
//! itself, can end.

use super::{Job, Variables, run};
use crate::support::full::pick;

const BLOCKERS: [&str; 3] = ["kernel", "host", "callback"];
/// Ways in which a stream can be blocked while others go on.
const ASYNC: Variables<'_> = &[];
const TORTURE: Variables<'_> = &[("COLDPRESS_TORTURE", "on")];
const WAYS: [Variables<'_>; 5] = [
    ASYNC,
    TORTURE,
    &[("SIMCUDA_STREAMS", "clocked:2000,50")],
    &[("COLDPRESS_MODE", "active"), ("COLDPRESS_WATERMARK", "25%")],
    &[("COLDPRESS_SAFETY", "params")],
];

/// Every way in the long form, the first ones in the short one.
fn ways(short: usize) -> &'static [Variables<'static>] {
    &WAYS[..pick(short, WAYS.len())]
}

/// The outcome is success or out of memory, by the program's own check; it says which.
pub fn outcome(stdout: &str, key: &str) -> u32 {
    let line = stdout.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
    line.and_then(|l| l.parse().ok()).unwrap_or_else(|| panic!("no {key} in {stdout:?}"))
}

pub fn all() -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for &way in ways(2) {
        for how in BLOCKERS {
            // Whatever the blocked stream may still reach is reachable by all: nothing is evicted.
            jobs.push(Box::new(move || drop(run("deadlocks", &["flag", how], way))));
            jobs.push(Box::new(move || drop(run("deadlocks", &["launch", how], way))));
            jobs.push(Box::new(move || drop(run("deadlocks", &["exit", how], way))));
            // The flag comes from a thread that launches or restores first. Patience is long, so
            // success means that the waiting thread was not in the way.
            for program in ["world", "ticket"] {
                jobs.push(Box::new(move || {
                    let patient = [way, &[("COLDPRESS_RESTORE_WAIT", "60s")]].concat();
                    let done = run("deadlocks", &[program, how], &patient);
                    assert_eq!(outcome(&done.stdout, "allocated"), 0, "{program} {how} {way:?}");
                }));
            }
        }
    }
    jobs
}

pub fn queues() -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for &way in ways(1) {
        for how in BLOCKERS {
            for program in ["queue", "full"] {
                jobs.push(Box::new(move || {
                    let short = [way, &[("SIMCUDA_QUEUE", "5")]].concat();
                    let done = run("deadlocks", &[program, how], &short);
                    // The driver does not take a fence either. Under torture everything is away
                    // before the queue is full, and there is room.
                    let torture = way.contains(&("COLDPRESS_TORTURE", "on"));
                    let blocked = outcome(&done.stdout, "blocked");
                    assert!(blocked == 2 || torture && blocked == 0, "{program} {how} {way:?}");
                }));
            }
        }
    }
    jobs
}
