//! Circumstances that programs meet: no memory, no descriptors, no room on the disk, forbidden
//! calls, forks, signals, ends of every kind. The job lives, its bytes are right, its files and
//! its exit code are its own.
//!
//! `tests/programs/limits.c` is the job; each test puts it into one of them.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod forks;
mod host;
mod system;

use std::path::PathBuf;
use support::{Outcome, Run, program};

/// The job in a circumstance, under a limit that holds a third of its buffers.
fn job(circumstance: &str) -> Run {
    under(Run::preloaded(&program("limits"))).arg(circumstance)
}

/// The settings of [`job`] for another program.
fn under(run: Run) -> Run {
    run.env("SIMCUDA_MEMORY", "256MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_LIMIT", "8MiB")
        .env("COLDPRESS_RESTORE_WAIT", "1s")
}

/// The job in a shell, for what only a shell or another program around it can do: `$JOB` runs it
/// with the library.
fn shell(script: &str, circumstance: &str) -> Run {
    let job = format!(
        "env LD_PRELOAD={} {} {circumstance}",
        support::library().display(),
        program("limits").display()
    );
    under(Run::new(&PathBuf::from("/bin/sh"))).args(["-c", script]).env("JOB", job)
}

/// Buffers the job could have.
fn buffers(outcome: &Outcome) -> u64 {
    let line = outcome.stdout.lines().find_map(|l| l.strip_prefix("buffers: "));
    line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no count: {outcome:#?}"))
}

/// The job ended well and all its bytes were right.
#[track_caller]
fn right(run: Run) -> Outcome {
    let outcome = run.outcome().well();
    assert!(outcome.stdout.lines().any(|l| l == "right"), "{outcome:#?}");
    outcome
}

/// That much was under pressure: without an eviction a test here would show nothing.
#[track_caller]
fn moved(outcome: &Outcome) {
    let moved = outcome.said().iter().any(|l| l.starts_with("out of memory avoided"));
    assert!(moved, "nothing was evicted: {outcome:#?}");
}
