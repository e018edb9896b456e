//! Programs in which something waits for a thread that waits for memory, and programs at the edge
//! of their limit: each ends, with an outcome that the driver allows and with right bytes. The
//! programs check their bytes themselves; here is how they are run and which way they may go.

#[path = "support/mod.rs"]
mod support;

#[path = "deadlocks/between.rs"]
mod between;
#[path = "deadlocks/blocked.rs"]
mod blocked;
#[path = "deadlocks/pressure.rs"]
mod pressure;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use support::full::Suite;
use support::{Outcome, Run, program};

fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| support::kernels("tests/programs/deadlocks.cu", "deadlocks.so"))
}

/// Variables of one run.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A card of 64 MiB with granules of 64 KiB, a limit of 16 MiB, and little patience. Nothing is
/// measured: the watchdog is there for what would never end.
fn run(file: &str, args: &[&str], variables: Variables<'_>) -> Outcome {
    judged(variables.iter().fold(prepared(file, args), |run, (name, value)| run.env(name, value)))
}

/// The same, with a thread that waits at a place of the library until the program opens the gate.
fn paused(file: &str, args: &[&str], place: &str) -> Outcome {
    judged(prepared(file, args).paused(place).env("SIMCUDA_LIBRARY", support::simulator()))
}

fn prepared(file: &str, args: &[&str]) -> Run {
    Run::preloaded(&program(file))
        .arg(image())
        .args(args)
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_LIMIT", "16MiB")
        .env("COLDPRESS_RESTORE_WAIT", "1s")
        .timeout(Duration::from_secs(120))
}

fn judged(run: Run) -> Outcome {
    let outcome = run.outcome().well();
    if let Some(report) = &outcome.report {
        let faults = report["faults"].as_array().map(Vec::len);
        assert_eq!(faults, Some(0), "{report}");
    }
    outcome
}

/// One program, run and judged.
type Job = Box<dyn FnOnce() + Send>;

/// All of it as one suite. The programs wait most of their time, so several run at once.
#[test]
fn nothing_waits_for_ever() {
    let suite = Suite::begin("deadlocks");
    let jobs: Vec<Job> = [blocked::all(), blocked::queues(), pressure::all(), pressure::rules()]
        .into_iter()
        .flatten()
        .collect();
    let programs = jobs.len();
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(job) = { jobs.lock().expect("no panic here").pop() } {
                    job();
                }
            });
        }
    });
    suite.end(serde_json::json!({ "programs": programs }));
}
