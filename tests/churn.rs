//! Very many steps, and the same few again and again: bytes stay right, tables agree with each other
//! (`residency::audit`), and nothing grows.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::full::{Suite, pick};
use support::{Outcome, Run, program, simulator};

fn churn(args: &[&str]) -> Run {
    Run::preloaded(&program("churn"))
        .args(args)
        .env("SIMCUDA_LIBRARY", simulator())
        .env("SIMCUDA_MEMORY", "256MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("TEST_COLDPRESS_AUDIT", "1")
        .timeout(Duration::from_secs(900))
}

/// It ended well, and every audit found all in order; how many there were.
#[track_caller]
fn audited(outcome: &Outcome) -> u64 {
    let wrong: Vec<_> = outcome.said().into_iter().filter(|l| l.starts_with("audit:")).collect();
    assert!(wrong.is_empty(), "{} findings, first {:?}", wrong.len(), wrong[0]);
    let times = outcome
        .said()
        .iter()
        .find_map(|l| l.strip_prefix("audited ")?.strip_suffix(" times")?.parse().ok());
    let times = times.unwrap_or_else(|| panic!("nothing was audited: {outcome:#?}"));
    assert!(times > 0, "{outcome:#?}");
    times
}

#[test]
fn many_steps() {
    let suite = Suite::begin("churn");
    let steps: u64 = pick(40_000, 1_000_000);
    let ways: [&[(&str, &str)]; 4] = [
        &[("COLDPRESS_LIMIT", "48MiB")],
        &[("COLDPRESS_LIMIT", "96MiB"), ("SIMCUDA_STREAMS", "eager")],
        &[("COLDPRESS_LIMIT", "64MiB"), ("SIMCUDA_GRANULARITY", "2MiB")],
        &[("COLDPRESS_LIMIT", "48MiB"), ("COLDPRESS_HOST_LIMIT", "24MiB")],
    ];
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    for (seed, way) in ways.iter().enumerate() {
        let args = ["steps".to_owned(), steps.to_string(), (seed + 1).to_string()];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = way.iter().fold(churn(&args), |run, (name, value)| run.env(name, value));
        let outcome = run.outcome().well();
        *total.entry("audits".to_owned()).or_default() += audited(&outcome);
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        for pair in words.chunks(2) {
            *total.entry(pair[0].to_owned()).or_default() +=
                pair[1].parse::<u64>().expect("a count");
        }
    }
    assert!(total["evictions"] > 0 && total["audits"] > 0, "{total:?}");
    suite.end(
        json!({ "steps": steps * ways.len() as u64, "seeds": [1, ways.len()], "counts": total }),
    );
}

#[test]
fn sleeping_and_waking_for_ever() {
    let suite = Suite::begin("sleep");
    let cycles: u64 = pick(60, 1000);
    let outcome = churn(&["sleep", &cycles.to_string()]).outcome().well();
    assert_eq!(outcome.stdout, format!("cycles {cycles} card emptied\n"), "{}", outcome.stderr);
    suite.end(json!({ "cycles": cycles, "audits": audited(&outcome) }));
}
