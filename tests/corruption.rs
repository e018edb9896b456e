//! Bytes change in the host memory where evicted ones are kept, or in flight, in either direction:
//! every buffer is right or lost. Lost means that every operation on it is an error, nothing of it
//! reaches the program or a kernel, one line names it, and everything else goes on.
//!
//! `tests/programs/corrupt.c` does it and looks; here it is spread over places, levels of `verify`
//! and ways of running streams, and what the library said and counted is compared with what it saw.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::full::{Suite, pick};
use support::{Outcome, Run, program, simulator};

/// The demo's kernels as an image for the simulator.
fn kernels() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let image = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("corruption-kernels-{}.so", std::process::id()));
        let done = Command::new("c++")
            .args(["-std=c++17", "-O1", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden"])
            .arg("-o")
            .args([&image, &root.join("kernels/demo/demo.cu")])
            .status();
        assert!(done.expect("c++").success());
        image
    })
}

const PLACES: [&str; 7] = ["none", "down", "up", "back", "once", "host", "store"];
const LEVELS: [&str; 3] = ["on", "strict", "restore"];
/// Where pages are coded. Kernels hash what is in device memory, so what `verify:restore` does not
/// see at an eviction it sees at the restore.
const CODECS: [&str; 2] = ["cpu", "auto"];

/// What one run of the program saw.
#[derive(Debug, Default)]
struct Seen {
    /// Buffers by outcome, as the program's last line has them.
    counts: BTreeMap<String, u64>,
    /// Addresses of lost buffers.
    lost: Vec<String>,
    /// Lines of wrong bytes or errors.
    wrong: Vec<String>,
}

fn run(
    place: &str,
    (level, codec): (&str, &str),
    streams: &str,
    seed: u64,
    rounds: u32,
) -> (Seen, Outcome) {
    // With host memory that is where what the program evicts goes.
    let host = if place == "store" { "0" } else { "25%" };
    let outcome = Run::preloaded(&program("corrupt"))
        .env("COLDPRESS_REAL_LIBCUDA", simulator())
        .env("COLDPRESS_VERIFY", level)
        .env("COLDPRESS_CODEC", codec)
        .env("COLDPRESS_HOST_LIMIT", host)
        .env("COLDPRESS_LIMIT", "16MiB")
        .env("SIMCUDA_MEMORY", "64MiB")
        .env("SIMCUDA_GRANULARITY", "64KiB")
        .env("SIMCUDA_STREAMS", streams)
        .arg(kernels())
        .args([&seed.to_string(), &rounds.to_string(), place])
        .outcome();
    let outcome = outcome.well();
    let mut seen = Seen::default();
    for line in outcome.stdout.lines() {
        if let Some(address) = line.strip_prefix("lost ") {
            seen.lost.push(address.to_owned());
        } else if line.starts_with("WRONG") {
            seen.wrong.push(line.to_owned());
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let pairs = words.chunks_exact(2).map(|p| (p[0].to_owned(), p[1].parse()));
            seen.counts.extend(pairs.map(|(name, n)| (name, n.expect("a number"))));
        }
    }
    let faults = outcome.report.as_ref().expect("a report")["faults"].as_array().map(Vec::len);
    assert_eq!(faults, Some(0), "{place}, {level}, {codec}: {outcome:#?}");
    (seen, outcome)
}

/// Runs it and checks what holds at every level.
fn check(place: &str, (level, codec): (&str, &str), streams: &str, seed: u64, rounds: u32) -> Seen {
    let (seen, outcome) = run(place, (level, codec), streams, seed, rounds);
    let what = format!("{place}, verify:{level}, codec:{codec}, {streams}, seed {seed}");
    // What `verify:restore` does not look for it does not find; nothing else is ever wrong.
    if !(place == "down" && level == "restore" && codec == "cpu") {
        assert_eq!(seen.wrong, [""; 0], "{what}: {outcome:#?}");
    }
    let said = outcome.said();
    let named = |address: &String| {
        let line = |l: &&&str| l.starts_with("cannot restore") && l.contains(address.as_str());
        said.iter().filter(line).count()
    };
    for address in &seen.lost {
        let times = seen.lost.iter().filter(|a| *a == address).count();
        assert!(named(address) >= times, "{what}: {address} is not named: {outcome:#?}");
    }
    let lines = said.iter().filter(|l| l.starts_with("cannot restore")).count();
    assert!(lines <= seen.lost.len(), "{what}: said more than happened: {outcome:#?}");
    // The last line the library says counts the checks that failed.
    let failed = said.iter().any(|l| l.contains(" FAILED)"));
    assert!(failed || place != "once", "{what}: repaired without a word: {outcome:#?}");
    match place {
        _ if codec == "auto" && level == "restore" => {}
        "none" | "down" | "once" | "store" => assert!(seen.lost.is_empty(), "{what}: {outcome:#?}"),
        _ => assert_eq!(seen.counts["kept"], 0, "{what}: {outcome:#?}"),
    }
    seen
}

#[test]
fn every_buffer_is_right_or_lost() {
    let suite = Suite::begin("corruption");
    let seeds = pick(3, 60);
    let (mut runs, mut all) = (0, BTreeMap::<String, u64>::new());
    for seed in 0..seeds {
        for place in PLACES {
            for (level, codec) in LEVELS.into_iter().flat_map(|l| CODECS.map(|c| (l, c))) {
                if place == "store" && codec == "cpu" {
                    continue;
                }
                let streams = ["async", "eager", "lazy:3", "random:5"][runs % 4];
                let seen = check(place, (level, codec), streams, 1000 + seed, 6);
                runs += 1;
                for (name, n) in seen.counts {
                    *all.entry(format!("{place}, {codec}: {name}")).or_default() += n;
                    if codec == "cpu" && name == "right" && level == "restore" && place == "down" {
                        let entry = all.entry("unseen with verify:restore".to_owned()).or_default();
                        *entry += seen.wrong.len() as u64;
                    }
                }
            }
        }
    }
    // It must have happened, or nothing was tested.
    for wanted in [
        "none, cpu: right",
        "none, auto: right",
        "down, cpu: right",
        "down, cpu: kept",
        "down, auto: right",
        "down, auto: kept",
        "down, auto: lost",
        "up, cpu: right",
        "up, cpu: lost",
        "up, auto: lost",
        "back, cpu: right",
        "back, cpu: lost",
        "back, auto: lost",
        "once, cpu: right",
        "once, auto: right",
        "host, cpu: right",
        "host, cpu: lost",
        "host, cpu: flipped",
        "host, auto: lost",
        "host, auto: flipped",
        "store, auto: right",
        "store, auto: kept",
        "store, auto: lost",
        "unseen with verify:restore",
    ] {
        assert!(all.get(wanted).is_some_and(|&n| n > 0), "no {wanted} in {all:?}");
    }
    suite.end(json!({ "runs": runs, "seeds": seeds, "buffers": all }));
}

/// What is copied wrong again and again is not copied any more.
#[test]
fn three_wrong_copies_end_eviction() {
    let ended = (0..40).any(|seed| {
        let (seen, outcome) = run("down", ("on", "cpu"), "async", seed, 6);
        assert!(seen.wrong.is_empty(), "{outcome:#?}");
        let off = "eviction is off from here on: copies to host memory come out wrong";
        outcome.said().contains(&off)
    });
    assert!(ended, "never");
}

/// The levels move as many bytes as they promise: a copy is read twice but with `restore`.
#[test]
fn only_restore_reads_what_leaves_once() {
    let downloads = |level| {
        let (seen, outcome) = run("none", (level, "cpu"), "async", 7, 3);
        assert!(seen.wrong.is_empty() && seen.lost.is_empty());
        outcome.calls("cuMemcpyDtoHAsync_v2")
    };
    let [on, strict, restore] = LEVELS.map(downloads);
    assert_eq!(on, strict);
    assert!(restore < on, "{restore} and {on}");
}
