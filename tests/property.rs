//! Random programs under the library on the simulated driver, against a reference model: contents,
//! counts and handles agree, nothing leaks, and no device work meets an unmapped page.
//!
//! `cuda-fuzz` (tests/fuzz) is the program; here it is spread over stream orders, granularities,
//! modes, limits and torture. A failure prints the command that repeats it.
//!
//! COLDPRESS_PROPERTY_SEQUENCES  how many random programs in all (default 64)
//! COLDPRESS_PROPERTY_SEED       seed of the first (default 1)
//! COLDPRESS_PROPERTY_RESULT     a file for what was run, as JSON

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const STEPS: u64 = 200;

/// One way to run the programs.
#[derive(Clone, Debug)]
struct Setting {
    streams: &'static str,
    granularity: &'static str,
    mode: &'static str,
    torture: bool,
    /// Bytes, well below what the programs hold at their peak; none leaves the card's memory.
    limit: Option<u64>,
    safety: &'static str,
    /// Calls that the driver refuses; only such as the programs do not make themselves.
    refused: Option<&'static str>,
}

impl Setting {
    fn all() -> Vec<Setting> {
        let mut all = Vec::new();
        for streams in ["async", "eager", "lazy", "random"] {
            for (granularity, limit) in [("4KiB", 512 << 10), ("64KiB", 1 << 20)] {
                // Torture evicts without need; there it is the memory that is not short.
                for (mode, torture, limit) in [
                    ("rescue", false, Some(limit)),
                    ("rescue", true, None),
                    ("active", false, Some(limit)),
                    ("active", true, Some(limit)),
                ] {
                    all.push(Setting {
                        streams,
                        granularity,
                        mode,
                        torture,
                        limit,
                        safety: "standard",
                        refused: None,
                    });
                }
            }
        }
        all
    }

    /// What the environment says, without the files.
    fn variables(&self, seed: u64) -> Vec<(&'static str, String)> {
        let streams = match self.streams {
            "random" => format!("random:{seed}"),
            other => other.to_owned(),
        };
        let mut variables = vec![
            ("SIMCUDA_STREAMS", streams),
            ("SIMCUDA_GRANULARITY", self.granularity.to_owned()),
            ("SIMCUDA_MEMORY", "64MiB".to_owned()),
            ("COLDPRESS_MODE", self.mode.to_owned()),
            ("COLDPRESS_SAFETY", self.safety.to_owned()),
        ];
        if self.torture {
            variables.push(("COLDPRESS_TORTURE", "on".to_owned()));
        }
        if let Some(refused) = self.refused {
            variables.push(("SIMCUDA_FAIL", refused.to_owned()));
        }
        if let Some(limit) = self.limit {
            variables.push(("COLDPRESS_LIMIT", limit.to_string()));
        }
        variables
    }

    fn name(&self) -> String {
        let limit = self.limit.map_or("no limit".to_owned(), |l| format!("{} KiB", l >> 10));
        let torture = if self.torture { "torture" } else { "" };
        let Setting { streams, granularity, mode, .. } = self;
        format!("{streams:<7}{granularity:<6} {mode:<7}{limit:<9} {torture:<8}")
    }
}

/// What cargo built: beside the command for what a user gets, in `deps` for what tests need.
fn built(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_coldpress")).parent().expect("a folder");
    let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    let found = [folder.join(name), folder.join("deps").join(name)];
    let newest = found.into_iter().filter(|p| p.is_file()).max_by_key(age);
    newest.unwrap_or_else(|| panic!("{name} is missing: run cargo build --workspace first"))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number"))
    })
}

/// The numbers `name=value` of a line.
fn fields(line: &str) -> BTreeMap<String, u64> {
    let field = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    line.split_whitespace().filter_map(field).collect()
}

/// A run of some sequences in one setting.
struct Run {
    setting: Setting,
    seed: u64,
    sequences: u64,
}

impl Run {
    /// What it did, or everything about how it failed.
    fn go(&self, folder: &Path) -> Result<BTreeMap<String, u64>, String> {
        let report = folder.join(format!("report-{}.json", self.seed));
        let _ = fs::remove_file(&report);
        let mut command = Command::new(built("cuda-fuzz"));
        for (name, _) in std::env::vars() {
            if name.starts_with("COLDPRESS_") || name.starts_with("SIMCUDA_") {
                command.env_remove(name);
            }
        }
        let simulator = built("libsimcuda.so");
        command
            .args(["--seed", &self.seed.to_string(), "--sequences", &self.sequences.to_string()])
            .args(["--steps", &STEPS.to_string(), "--timeout", "60", "--shrink", "30"])
            .env("LD_PRELOAD", built("libcoldpress.so"))
            .env("COLDPRESS_REAL_LIBCUDA", &simulator)
            .env("SIMCUDA_LIBRARY", &simulator)
            .env("SIMCUDA_REPORT", &report)
            .envs(self.setting.variables(self.seed))
            .stdin(Stdio::null());
        if let Some(limit) = self.setting.limit {
            command.args(["--limit", &limit.to_string()]);
        }
        let Output { status, stdout, stderr } = command.output().expect("cuda-fuzz starts");
        let said = String::from_utf8_lossy(&stdout);
        let problem = match status.success() {
            false => Some(status.to_string()),
            true => leaks(&report).err(),
        };
        if let Some(problem) = problem {
            let bad: Vec<&str> = said.lines().filter(|l| !l.contains(": ok ")).collect();
            let done = said.lines().filter(|l| l.contains(": ok ")).count();
            let mut text = format!("{problem}, after {done} good sequences\n");
            for (name, value) in self.setting.variables(self.seed) {
                let _ = write!(text, "{name}={value} ");
            }
            if !bad.iter().any(|l| l.contains(": FAILED: ")) {
                let _ = write!(text, "seed {} was the last begun", self.seed + done as u64);
            }
            text.push('\n');
            let _ = writeln!(text, "{}", bad.join("\n"));
            text.push_str(&String::from_utf8_lossy(&stderr));
            return Err(text);
        }
        let totals = said.lines().find_map(|l| l.strip_prefix("all: "));
        totals.map(fields).ok_or_else(|| format!("no totals:\n{said}"))
    }
}

/// Nothing is left in the driver after the program's end.
fn leaks(report: &Path) -> Result<(), String> {
    let text = fs::read_to_string(report).map_err(|e| format!("{}: {e}", report.display()))?;
    let report: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    let leaks = report["leaks"].as_object().ok_or("the report lists no leaks")?;
    // The range of addresses stays: no other may ever take its place in this process.
    let left = leaks.iter().filter(|(what, n)| *what != "reservations" && n.as_u64() != Some(0));
    let mut left: Vec<String> = left.map(|(what, n)| format!("{n} {what}")).collect();
    let faults = report["faults"].as_array().map_or(0, Vec::len);
    if faults > 0 {
        left.push(format!("{faults} faults"));
    }
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", "))) }
}

/// The programs do reach memory in hidden ways: where launches are trusted (`safety:params`) and
/// nothing is scanned, they meet unmapped pages.
#[test]
fn without_the_scan_the_programs_fail() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("property-unsafe");
    fs::create_dir_all(&folder).expect("a temporary folder");
    let setting = Setting { safety: "params", ..Setting::all()[0].clone() };
    let result = Run { setting, seed: 1, sequences: 3 }.go(&folder);
    let text = result.expect_err("the scan is not needed: the programs have become too tame");
    assert!(text.contains("ILLEGAL_ADDRESS") || text.contains("unmapped"), "{text}");
}

#[test]
fn random_programs_see_their_own_bytes() {
    let sequences = number("COLDPRESS_PROPERTY_SEQUENCES", 64);
    let first = number("COLDPRESS_PROPERTY_SEED", 1);
    let settings = Setting::all();
    let each = sequences.div_ceil(settings.len() as u64);
    let runs: Vec<Run> = settings
        .into_iter()
        .zip(0..)
        .map(|(setting, i)| Run { setting, seed: first + i * each, sequences: each })
        .collect();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("property");
    fs::create_dir_all(&folder).expect("a temporary folder");

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

    let results = results.into_inner().expect("no panic");
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut listed = Vec::new();
    for (i, result) in &results {
        let run = &runs[*i];
        let seeds = format!("seeds {}..{}", run.seed, run.seed + run.sequences);
        match result {
            Ok(counts) => {
                println!(
                    "{} {seeds:<16} {:>5} evictions {:>5} restores {:>4} over the limit",
                    run.setting.name(),
                    counts["evictions"],
                    counts["restores"],
                    counts["over_limit"]
                );
                for (name, value) in counts {
                    *totals.entry(name.clone()).or_default() += value;
                }
                if counts["evictions"] == 0 || counts["restores"] == 0 {
                    failures.push(format!("{}: nothing moved", run.setting.name()));
                }
            }
            Err(text) => failures.push(format!("{} {seeds}: {text}", run.setting.name())),
        }
        listed.push(json!({
            "setting": run.setting.name().split_whitespace().collect::<Vec<_>>().join(" "),
            "first_seed": run.seed,
            "sequences": run.sequences,
            "ok": result.is_ok(),
            "counts": result.as_ref().ok(),
        }));
    }
    totals.remove("peak");
    let ran = each * runs.len() as u64;
    println!("{ran} programs of {STEPS} steps, seeds {first}..{}: {totals:?}", first + ran);
    if let Ok(path) = std::env::var("COLDPRESS_PROPERTY_RESULT") {
        let document = json!({
            "schema": "coldpress.property",
            "version": 1,
            "sequences": ran,
            "steps_each": STEPS,
            "first_seed": first,
            "failed_settings": failures.len(),
            "totals": totals,
            "runs": listed,
        });
        fs::write(&path, format!("{document:#}\n")).expect("the result is written");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_driver_that_refuses_costs_no_byte() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("property-refused");
    fs::create_dir_all(&folder).expect("a temporary folder");
    let mut failures = Vec::new();
    for (refused, i) in [
        "cuMemCreate:12=2,cuMemCreate:15=2,cuMemCreate:30=2,cuMemCreate:31=2",
        "cuMemMap:20=2",
        "cuMemSetAccess:15=2",
        "cuMemHostRegister_v2:1=2",
        "cuMemHostRegister_v2:2=2",
        "cuCtxRecordEvent:3=999",
        "cuFuncGetParamInfo:3=999",
    ]
    .into_iter()
    .zip(0..)
    {
        for (granularity, torture, limit) in [("4KiB", true, 512 << 10), ("64KiB", false, 1 << 20)]
        {
            let setting = Setting {
                streams: "async",
                granularity,
                mode: "rescue",
                torture,
                limit: Some(limit),
                safety: "standard",
                refused: Some(refused),
            };
            if let Err(text) = (Run { setting, seed: 1 + i * 4, sequences: 4 }).go(&folder) {
                failures.push(text);
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
