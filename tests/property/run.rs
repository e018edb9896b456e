//! One process of random programs, and what it says.

use crate::setting::Setting;
use crate::support::{self, artefact};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Steps of one program.
pub const STEPS: u64 = 200;

/// A run of some sequences in one setting.
pub struct Run {
    /// The setting.
    pub setting: Setting,
    /// Of the first.
    pub seed: u64,
    /// How many.
    pub sequences: u64,
}

/// What was counted, by name.
pub type Counts = BTreeMap<String, u64>;

/// Where programs that fail are written.
pub fn failed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed")
}

/// The numbers `name=value` of a line.
fn fields(line: &str) -> Counts {
    let field = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    line.split_whitespace().filter_map(field).collect()
}

/// `cuda-fuzz` under the library, without anything the caller's environment says.
pub fn fuzz(report: &Path) -> Command {
    let mut command = Command::new(artefact("cuda-fuzz"));
    for (name, _) in std::env::vars() {
        if name.starts_with("COLDPRESS_") || name.starts_with("SIMCUDA_") {
            command.env_remove(name);
        }
    }
    let simulator = support::simulator();
    command
        .env("LD_PRELOAD", support::library())
        .env("COLDPRESS_REAL_LIBCUDA", &simulator)
        .env("SIMCUDA_LIBRARY", &simulator)
        .env("SIMCUDA_REPORT", report)
        .env("CUDA_FUZZ_COLDPRESS", env!("CARGO_BIN_EXE_coldpress"))
        .stdin(Stdio::null());
    command
}

impl Run {
    /// What it did, or everything about how it failed.
    pub fn go(&self, folder: &Path) -> Result<Counts, String> {
        let report = folder.join(format!("report-{}.json", self.seed));
        let _ = fs::remove_file(&report);
        let mut command = fuzz(&report);
        let shrink = std::env::var("TEST_COLDPRESS_SHRINK").unwrap_or_else(|_| "60".to_owned());
        command
            .args(["--seed", &self.seed.to_string(), "--sequences", &self.sequences.to_string()])
            .args(["--steps", &STEPS.to_string(), "--timeout", "60", "--shrink", &shrink, "--save"])
            .arg(failed())
            .args(self.setting.arguments())
            .envs(self.setting.variables(self.seed));
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
            let _ = writeln!(text, "cuda-fuzz {}", self.setting.arguments().join(" "));
            let _ = writeln!(text, "{}", bad.join("\n"));
            text.push_str(&String::from_utf8_lossy(&stderr));
            return Err(text);
        }
        let totals = said.lines().find_map(|l| l.strip_prefix("all: "));
        totals.map(fields).ok_or_else(|| format!("no totals:\n{said}"))
    }
}

/// Nothing is left in the driver after the program's end.
pub fn leaks(report: &Path) -> Result<(), String> {
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
