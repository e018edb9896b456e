//! What the environment asks for. Read once; a value that makes no sense is said and ignored.

use std::env;
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
    pub trace: Option<String>,
    pub report: Option<String>,
    pub shared: Option<String>,
    pub fill: bool,
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
        devices: number("SIMCUDA_DEVICES").map_or(1, |n| n.min(8) as usize),
        memory,
        budget: size("SIMCUDA_BUDGET").unwrap_or(memory).min(memory),
        granularity,
        mode: mode(),
        strict: env::var("SIMCUDA_STRICT").is_ok_and(|v| v == "1"),
        driver_version: number("SIMCUDA_DRIVER_VERSION").map_or(13000, |n| n as i32),
        missing: list("SIMCUDA_MISSING"),
        newer: list("SIMCUDA_NEWER").iter().filter_map(|e| pair(e, '@')).collect(),
        delay: list("SIMCUDA_DELAY")
            .iter()
            .filter_map(|e| pair(e, ':'))
            .filter_map(|(i, us): (String, u64)| Some((i.parse().ok()?, us)))
            .collect(),
        trace: env::var("SIMCUDA_TRACE").ok(),
        report: env::var("SIMCUDA_REPORT").ok(),
        shared: env::var("SIMCUDA_SHARED").ok().filter(|s| !s.is_empty()),
        fill: env::var("SIMCUDA_FILL").map_or(true, |v| v != "0"),
    }
}

fn mode() -> Mode {
    let Ok(text) = env::var("SIMCUDA_STREAMS") else { return Mode::Async };
    let (name, rest) = text.split_once(':').unwrap_or((&text, ""));
    match name {
        "async" | "" => Mode::Async,
        "eager" => Mode::Eager,
        "lazy" => Mode::Lazy(rest.parse().unwrap_or(4)),
        "random" => Mode::Random(rest.parse().unwrap_or(1)),
        "clocked" => {
            let (bytes, kernel) = rest.split_once(',').unwrap_or((rest, ""));
            Mode::Clocked(bytes.parse().unwrap_or(10_000), kernel.parse().unwrap_or(10))
        }
        _ => {
            bad(
                "SIMCUDA_STREAMS",
                "async, eager, lazy:K, random:SEED or clocked:BYTES_PER_US,KERNEL_US",
            );
            Mode::Async
        }
    }
}

fn bad(name: &str, wanted: &str) {
    eprintln!("simcuda: {name} must be {wanted}; ignored");
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn list(name: &str) -> Vec<String> {
    let text = env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn pair<T: std::str::FromStr>(entry: &str, by: char) -> Option<(String, T)> {
    let (name, value) = entry.split_once(by)?;
    Some((name.to_owned(), value.parse().ok()?))
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
