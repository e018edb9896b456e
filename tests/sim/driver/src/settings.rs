//! What the environment asks for. Read once; a value that makes no sense is said and ignored.

use std::env;
use std::str::FromStr;
use std::sync::OnceLock;

/// When queued device work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A thread per stream.
    Async,
    /// At the call, on the calling thread.
    Eager,
    /// Not before somebody waits, or asks this many times.
    Lazy(u32),
    /// One thread that picks among what is ready, by seed.
    Random(u64),
    /// As `Async`; work takes time: bytes per microsecond, microseconds per kernel.
    Clocked(u64, u64),
}

/// All settings.
#[derive(Debug)]
pub struct Settings {
    pub devices: usize,
    pub memory: u64,
    pub budget: u64,
    pub granularity: u64,
    pub mode: Mode,
    pub strict: bool,
    pub driver_version: i32,
    pub missing: Vec<String>,
    pub newer: Vec<(String, i32)>,
    pub delay: Vec<(usize, u64)>,
    /// Items that a stream's queue holds.
    pub queue: Option<usize>,
    pub trace: Option<String>,
    pub report: Option<String>,
    pub shared: Option<String>,
    pub fill: bool,
    /// Copies use pageable memory in stream order too.
    pub reaches_pageable: bool,
    /// No image has code for the card but a test's own.
    pub refuse_kernels: bool,
    /// A call with a context that has ended is an error and no crash.
    pub survives_destroyed: bool,
}

/// The settings of this process.
pub fn get() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(read)
}

fn read() -> Settings {
    let memory = size("SIMCUDA_MEMORY").unwrap_or(1 << 30);
    let granularity = size("SIMCUDA_GRANULARITY").unwrap_or(2 << 20);
    let granularity = if granularity.is_power_of_two() && (4096..=2 << 20).contains(&granularity) {
        granularity
    } else {
        bad("SIMCUDA_GRANULARITY", "a power of two from 4KiB to 2MiB");
        2 << 20
    };
    Settings {
        devices: number("SIMCUDA_DEVICES", 1, 8) as usize,
        memory,
        budget: size("SIMCUDA_BUDGET").unwrap_or(memory).min(memory),
        granularity,
        mode: mode(),
        strict: env::var("SIMCUDA_STRICT").is_ok_and(|v| v == "1"),
        driver_version: number("SIMCUDA_DRIVER_VERSION", 13000, 1_000_000) as i32,
        missing: list("SIMCUDA_MISSING"),
        newer: pairs("SIMCUDA_NEWER", '@', "NAME@VERSION,.."),
        delay: pairs("SIMCUDA_DELAY", ':', "STREAM:MICROSECONDS,.."),
        queue: Some(number("SIMCUDA_QUEUE", 0, 1 << 20) as usize).filter(|&n| n > 0),
        trace: env::var("SIMCUDA_TRACE").ok(),
        report: env::var("SIMCUDA_REPORT").ok(),
        shared: env::var("SIMCUDA_SHARED").ok().filter(|s| !s.is_empty()),
        fill: env::var("SIMCUDA_FILL").map_or(true, |v| v != "0"),
        reaches_pageable: env::var("SIMCUDA_PAGEABLE").is_ok_and(|v| v == "1"),
        refuse_kernels: choice("SIMCUDA_KERNELS", ["run", "refuse"]),
        survives_destroyed: choice("SIMCUDA_DESTROYED", ["crash", "report"]),
    }
}

/// Whether it is the second of two words; the first is the default.
fn choice(name: &str, [usual, other]: [&str; 2]) -> bool {
    let text = env::var(name).unwrap_or_default();
    if !["", usual, other].contains(&text.as_str()) {
        bad(name, &format!("{usual} or {other}"));
    }
    text == other
}

fn mode() -> Mode {
    const NAME: &str = "SIMCUDA_STREAMS";
    const WANTED: &str = "async, eager, lazy:K, random:SEED or clocked:BYTES_PER_US,KERNEL_US";
    let text = env::var(NAME).unwrap_or_default();
    parse_mode(&text).unwrap_or_else(|| {
        bad(NAME, WANTED);
        Mode::Async
    })
}

fn parse_mode(text: &str) -> Option<Mode> {
    let (name, rest) = text.split_once(':').map_or((text, None), |(n, r)| (n, Some(r)));
    Some(match (name, rest) {
        ("async" | "", None) => Mode::Async,
        ("eager", None) => Mode::Eager,
        ("lazy", rest) => Mode::Lazy(rest.map_or(Ok(4), str::parse).ok()?),
        ("random", rest) => Mode::Random(rest.map_or(Ok(1), str::parse).ok()?),
        ("clocked", None) => Mode::Clocked(10_000, 10),
        ("clocked", Some(rest)) => {
            let (bytes, kernel) = rest.split_once(',')?;
            Mode::Clocked(bytes.parse().ok()?, kernel.parse().ok()?)
        }
        _ => return None,
    })
}

fn bad(name: &str, wanted: &str) {
    eprintln!("simcuda: {name} must be {wanted}; ignored");
}

fn number(name: &str, default: u64, most: u64) -> u64 {
    let Ok(text) = env::var(name) else { return default };
    let number = text.parse().ok().filter(|n| *n <= most);
    number.unwrap_or_else(|| {
        bad(name, &format!("a number up to {most}"));
        default
    })
}

fn list(name: &str) -> Vec<String> {
    let text = env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// A list of two values each, all of them or none.
fn pairs<A: FromStr, B: FromStr>(name: &str, by: char, wanted: &str) -> Vec<(A, B)> {
    let pair = |entry: &String| {
        let (a, b) = entry.split_once(by)?;
        Some((a.parse().ok()?, b.parse().ok()?))
    };
    let all: Option<Vec<(A, B)>> = list(name).iter().map(pair).collect();
    all.unwrap_or_else(|| {
        bad(name, wanted);
        Vec::new()
    })
}

/// A number with a suffix, K M G as KiB MiB GiB.
fn size(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim_end_matches("iB").trim_end_matches('B') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1u64 << 30,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|&b| b > 0);
    if bytes.is_none() {
        bad(name, "a size such as 64MiB");
    }
    bytes
}
