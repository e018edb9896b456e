//! Many threads at once under the library: every word of every buffer is what it must be, nobody
//! hangs, nothing leaks, and no device work meets an unmapped page.
//!
//! `cuda-threads` (tests/fuzz/src/threads) is the program: workers with buffers, streams and
//! buffers in common, and one thread that evicts, restores and turns the library off and on. Here
//! it is spread over stream orders and modes. The order of threads is the machine's, so a failure
//! need not come back with its seed; the message names the buffer, the step and the first word.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::full::{Suite, full, pick};
use support::{Run, artefact, program, simulator};

/// One way to run the threads.
struct Setting {
    streams: String,
    /// What the library is told.
    variables: &'static [(&'static str, &'static str)],
    granularity: &'static str,
}

const LIMIT: (&str, &str) = ("COLDPRESS_LIMIT", "1MiB");
const ACTIVE: (&str, &str) = ("COLDPRESS_MODE", "active");
const TORTURE: (&str, &str) = ("COLDPRESS_TORTURE", "on");

/// Memory that is short, memory that is kept free ahead of time, no memory kept at all.
const WAYS: [&[(&str, &str)]; 4] = [&[LIMIT], &[LIMIT, ACTIVE], &[TORTURE], &[LIMIT, TORTURE]];

fn settings(seed: u64) -> Vec<Setting> {
    let mut all = Vec::new();
    for streams in ["async".to_owned(), format!("random:{seed}"), "clocked".to_owned()] {
        for variables in WAYS {
            all.push(Setting { streams: streams.clone(), variables, granularity: "4KiB" });
        }
    }
    if full() {
        let variables: &[_] = &[("COLDPRESS_LIMIT", "2MiB"), ACTIVE];
        let streams = "async".to_owned();
        all.push(Setting { streams, variables, granularity: "64KiB" });
    }
    all
}

/// Runs the threads once; what they counted.
fn run(setting: &Setting, seed: u64, milliseconds: u64) -> BTreeMap<String, u64> {
    let mut run = Run::preloaded(&artefact("cuda-threads"))
        .env("SIMCUDA_LIBRARY", simulator())
        .env("COLDPRESS_REAL_LIBCUDA", simulator())
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", setting.granularity)
        .env("SIMCUDA_STREAMS", &setting.streams)
        .args(["--seed", &seed.to_string(), "--milliseconds", &milliseconds.to_string()])
        .arg("--switch")
        .arg(env!("CARGO_BIN_EXE_coldpress"))
        .timeout(Duration::from_secs(240));
    for (name, value) in setting.variables {
        run = run.env(name, value);
    }
    let outcome = run.outcome();
    let what = format!("{} {:?} seed {seed}", setting.streams, setting.variables);
    assert!(outcome.status.success(), "{what}: {outcome:#?}");
    let report = outcome.report.expect("a report of the simulator");
    assert_eq!(report["faults"], json!([]), "{what}");
    let line = outcome.stdout.lines().find(|l| l.starts_with("all:")).expect("the counts");
    let field = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let counts: BTreeMap<String, u64> = line.split_whitespace().filter_map(field).collect();
    // A run in which nothing was moved, or nobody met, shows nothing.
    for name in ["evictions", "restores", "meetings", "checks", "streams", "frees", "orders"] {
        assert!(counts[name] > 0, "{what}: no {name}: {line}");
    }
    println!("{what}: {}", line.trim_start_matches("all: "));
    counts
}

#[test]
fn eight_threads_keep_every_word() {
    let suite = Suite::begin("threads");
    let (seeds, milliseconds) = pick((1, 2200), (2, 11_000));
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    let mut runs = 0;
    for seed in 1..=seeds {
        for setting in settings(seed) {
            runs += 1;
            for (name, count) in run(&setting, seed, milliseconds) {
                *total.entry(name).or_default() += count;
            }
        }
    }
    assert!(total["switches"] > 0, "the library was never turned off");
    suite.end(json!({ "runs": runs, "seeds": [1, seeds], "milliseconds": milliseconds,
        "threads": 8, "counts": total }));
}

/// The check itself: the simulator says yes to some fills and does not do them. Some, since what
/// one of them should have written may be written over before anybody looks.
#[test]
fn a_lost_write_is_found() {
    let lost: Vec<String> = (3..23).map(|n| format!("cuMemsetD32Async:{n}=0")).collect();
    let outcome = Run::new(&artefact("cuda-threads"))
        .env("SIMCUDA_FAIL", lost.join(","))
        .args(["--milliseconds", "2000"])
        .outcome();
    assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
    assert!(outcome.stdout.contains("words are wrong"), "{outcome:#?}");
}

/// The memory of a module's variables is the driver's, and goes with it: nobody reads it then.
#[test]
fn modules_go_while_their_globals_are_read() {
    let image = support::kernels("kernels/demo/demo.cu", "modules.so");
    for streams in ["random:1", "clocked:2000,50", "async"] {
        let run = Run::preloaded(&program("modules"))
            .env("SIMCUDA_STREAMS", streams)
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("SIMCUDA_GRANULARITY", "64KiB");
        let outcome = run.arg(&image).arg(pick(60, 600).to_string()).outcome().well();
        assert_eq!(outcome.stdout, "evicted: yes\n", "{streams}: {}", outcome.stderr);
        assert_eq!(outcome.report.expect("a report")["faults"], json!([]), "{streams}");
    }
    let _ = std::fs::remove_file(image);
}

/// While a free is on its way, its range is nobody's yet: the block it lies in stays.
#[test]
fn a_block_stays_while_a_free_of_it_is_on_its_way() {
    let run = Run::preloaded(&program("meanwhile"))
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_RESTORE_WAIT", "1s")
        .env("COLDPRESS_LIMIT", "9MiB")
        .paused("free-begun");
    let outcome = run.arg("free").outcome().well();
    let expected = "allocated: 0, freed: 0 and 0, apart, synchronized: 0\n";
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panic"), "{}", outcome.stderr);
}

/// Who has the ticket does not wait for the pins of those who queue for it: they hold none. How
/// long the restore looks for memory depends on how often the others hold some; no operation may
/// fail over it. (That it is not their queueing is shown in `tests/model`.)
#[test]
fn nobody_waits_for_the_pins_of_a_queue() {
    let run = Run::preloaded(&program("meanwhile"))
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("COLDPRESS_RESTORE_WAIT", "10s")
        .env("COLDPRESS_LIMIT", "9MiB")
        .timeout(std::time::Duration::from_secs(240));
    let outcome = run.args(["queue", "10"]).outcome().well();
    let said = outcome.stdout.strip_prefix("restored: no, ");
    assert!(said.is_some_and(|s| s.ends_with(", failed: 0\n")), "{outcome:#?}");
}
