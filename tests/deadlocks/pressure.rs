//! Programs at the edge of their limit. They check their bytes; here it is whether they stay under
//! the limit, and what is said where the engine must not act.

use super::blocked::outcome;
use super::{Job, Variables, run};
use crate::support::Outcome;
use crate::support::full::pick;

const LIMIT: u64 = 16 << 20;

const WAYS: [Variables<'_>; 6] = [
    &[],
    &[("COLDPRESS_TORTURE", "on"), ("SIMCUDA_STREAMS", "lazy:3")],
    &[("SIMCUDA_STREAMS", "random:5"), ("COLDPRESS_MODE", "active")],
    &[("SIMCUDA_STREAMS", "eager")],
    &[("SIMCUDA_STREAMS", "clocked:2000,50"), ("SIMCUDA_DRIVER_VERSION", "12040")],
    &[("COLDPRESS_TORTURE", "on"), ("SIMCUDA_STREAMS", "random:7")],
];

/// The most the program had of the card, as the simulator counts it.
fn peak(outcome: &Outcome) -> u64 {
    let report = outcome.report.as_ref().expect("a report");
    report["devices"][0]["peak_bytes"].as_u64().expect("bytes")
}

pub fn all() -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for &way in &WAYS[..pick(3, WAYS.len())] {
        for program in ["sixty", "sizes", "streams", "waiters"] {
            jobs.push(Box::new(move || {
                // Long patience: success is not a matter of time.
                let patient = [way, &[("COLDPRESS_RESTORE_WAIT", "60s")]].concat();
                let done = run("pressure", &[program], &patient);
                assert!(peak(&done) <= LIMIT, "{program} {way:?}: {}", peak(&done));
            }));
        }
        jobs.push(Box::new(move || {
            // Nobody waits for what cannot come: with this patience that would never end.
            let patient = [way, &[("COLDPRESS_RESTORE_WAIT", "600s")]].concat();
            let done = run("pressure", &["over"], &patient);
            assert!(peak(&done) > LIMIT && peak(&done) <= LIMIT + (6 << 20), "{}", peak(&done));
        }));
    }
    jobs
}

/// One rule each.
pub fn rules() -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for version in ["13000", "12040"] {
        let driver = ("SIMCUDA_DRIVER_VERSION", version);
        jobs.push(Box::new(move || {
            let done = run("pressure", &["destroyed"], &[driver]);
            assert_eq!(outcome(&done.stdout, "blocked"), 2, "{version}");
        }));
        jobs.push(Box::new(move || {
            let done = run("pressure", &["per-thread"], &[driver]);
            let wanted = if version == "13000" { 0 } else { 2 };
            assert_eq!(outcome(&done.stdout, "allocated"), wanted, "{version}");
        }));
        jobs.push(Box::new(move || drop(run("pressure", &["many-streams"], &[driver]))));
    }
    for mode in ["async", "eager", "lazy:3"] {
        jobs.push(Box::new(move || {
            let done = run("pressure", &["callback"], &[("SIMCUDA_STREAMS", mode)]);
            assert_eq!(done.stdout, "800 800 800 800\n".repeat(2), "{mode}");
        }));
    }
    jobs.push(Box::new(|| {
        let done = run("pressure", &["capture"], &[("COLDPRESS_LIMIT", "20MiB")]);
        assert_eq!(outcome(&done.stdout, "allocated"), 2);
        assert!(done.stderr.contains("cuStreamBeginCapture"), "{}", done.stderr);
    }));
    jobs.push(Box::new(|| {
        let active = [("COLDPRESS_MODE", "active"), ("COLDPRESS_WATERMARK", "25%")];
        run("pressure", &["contexts"], &active);
    }));
    jobs.push(Box::new(|| {
        let name = format!("deadlocks-{}", std::process::id());
        let card = [
            ("SIMCUDA_MEMORY", "20MiB"),
            ("COLDPRESS_LIMIT", "14MiB"),
            ("SIMCUDA_SHARED", name.as_str()),
        ];
        run("pressure", &["neighbour"], &card);
        let _ = std::fs::remove_file(format!("/dev/shm/simcuda-{name}"));
    }));
    jobs
}
