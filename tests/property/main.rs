//! Random programs under the library on the simulated driver, against a reference model: contents,
//! counts and handles agree, nothing leaks, and no device work meets an unmapped page.
//!
//! `cuda-fuzz` (tests/fuzz) is the program; here it is spread over stream orders, granules,
//! modes, limits, cards and torture. A failure is shrunk, printed and written to a file; moved to
//! `tests/fuzz/regressions` it is run here for ever (`regressions.rs`).
//!
//! TEST_COLDPRESS_SEED    seed of the first program (default 1)
//! TEST_COLDPRESS_SHRINK  seconds to spend on shortening a failure (default 60)

mod regressions;
mod run;
mod setting;
#[path = "../support/mod.rs"]
mod support;

use run::{Counts, Run, STEPS};
use serde_json::json;
use setting::Setting;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::full::{Suite, pick};

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// The programs do reach memory in hidden ways: where launches are trusted (`safety:params`) and
/// nothing is scanned, they meet unmapped pages.
#[test]
fn without_the_scan_the_programs_fail() {
    let setting = Setting { safety: "params", ..Setting::plain() };
    let result = Run { setting, seed: 1, sequences: 24 }.go(&folder("property-unsafe"));
    let text = result.expect_err("the scan is not needed: the programs have become too tame");
    assert!(text.contains("ILLEGAL_ADDRESS") || text.contains("unmapped"), "{text}");
}

/// Runs them all, on every core; results in the order of `runs`.
fn run_all(runs: &[Run]) -> Vec<Result<Counts, String>> {
    let folder = folder("property");
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(i) else { break };
                    let result = run.go(&folder);
                    results.lock().expect("no panic").insert(i, result);
                }
            });
        }
    });
    results.into_inner().expect("no panic").into_values().collect()
}

#[test]
fn random_programs_see_their_own_bytes() {
    let suite = Suite::begin("property");
    let first = std::env::var("TEST_COLDPRESS_SEED").map_or(1, |text| {
        text.parse().unwrap_or_else(|_| panic!("TEST_COLDPRESS_SEED={text}: not a number"))
    });
    let mut seed = first;
    let mut runs = Vec::new();
    let small = Setting::small().into_iter().map(|s| (s, pick(8, 125)));
    let coded = Setting::coded().into_iter().map(|s| (s, pick(2, 60)));
    let large = Setting::large().into_iter().map(|s| (s, pick(1, 20)));
    for (setting, sequences) in small.chain(coded).chain(large) {
        runs.push(Run { setting, seed, sequences });
        seed += sequences;
    }
    let mut totals = Counts::new();
    let mut failures = Vec::new();
    for (run, result) in runs.iter().zip(run_all(&runs)) {
        let name = run.setting.name();
        let seeds = format!("seeds {}..{}", run.seed, run.seed + run.sequences);
        match result {
            Ok(counts) => {
                println!(
                    "{name} {seeds:<18} {:>6} evictions {:>6} restores {:>4} over the limit",
                    counts["evictions"], counts["restores"], counts["over_limit"]
                );
                if counts["evictions"] == 0 || counts["restores"] == 0 {
                    failures.push(format!("{name}: nothing moved"));
                }
                for (name, value) in counts {
                    *totals.entry(name).or_default() += value;
                }
            }
            Err(text) => failures.push(format!("{name} {seeds}: {text}")),
        }
    }
    totals.remove("peak");
    let large: u64 =
        runs.iter().filter(|r| r.setting.granularity == "2MiB").map(|r| r.sequences).sum();
    suite.end(json!({
        "programs": seed - first,
        "of them at 2 MiB": large,
        "steps each": STEPS,
        "settings": runs.len(),
        "first seed": first,
        "failed settings": failures.len(),
        "totals": totals,
    }));
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_driver_that_refuses_costs_no_byte() {
    let folder = folder("property-refused");
    let mut failures = Vec::new();
    for (refused, i) in [
        "cuMemCreate:12=2,cuMemCreate:15=2,cuMemCreate:30=2,cuMemCreate:31=2",
        "cuMemMap:20=2",
        "cuMemSetAccess:15=2",
        "cuMemHostRegister_v2:1=2",
        "cuMemHostRegister_v2:2=2",
        "cuCtxRecordEvent:3=999",
    ]
    .into_iter()
    .zip(0..)
    {
        for (granularity, torture, limit) in [("4KiB", true, 512 << 10), ("64KiB", false, 1 << 20)]
        {
            let setting = Setting {
                granularity,
                torture,
                limit: Some(limit),
                refused: Some(refused),
                ..Setting::plain()
            };
            if let Err(text) = (Run { setting, seed: 1 + i * 4, sequences: 4 }).go(&folder) {
                failures.push(text);
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
