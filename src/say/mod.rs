//! What a user sees: a few lines on stderr, each one write, so that lines of many processes do
//! not mix.
//!
//! Owns: the wording of the lines everybody sees and how often they appear. Never: a panic, a
//! lock held across anything slow. Detail for the curious goes through `tracing` (see `log`).

mod lines;
mod log;

pub use lines::{Card, Outcome, ending, first, machine, start_line};

use crate::config::{self, Mode, host};
use crate::{os, stats};
use parking_lot::Mutex;
use std::sync::{Once, OnceLock};
use std::time::Duration;

/// One line, whatever happens: problems and what the user asked to see.
pub fn line(text: &str) {
    tracing::info!(target: "coldpress::say", "{text}");
    let mut bytes = Vec::with_capacity(text.len() + 12);
    bytes.extend_from_slice(b"coldpress: ");
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    write(&bytes);
}

/// Whether the process began with a stderr. Without one its number is given to the first file
/// that the program opens, and our lines are not for that.
static STDERR: OnceLock<bool> = OnceLock::new();

/// Called when the library is loaded, before the program opens anything.
pub fn loaded() {
    STDERR.get_or_init(|| os::is_open(libc::STDERR_FILENO));
}

/// Writes to stderr in one piece; what fails there cannot be told anybody. `std::io::stderr` is
/// not used: its lock may be held by a thread that a fork or an exit has stopped.
fn write(bytes: &[u8]) {
    if *STDERR.get().unwrap_or(&true) {
        let _ = os::write_all(libc::STDERR_FILENO, bytes);
    }
}

/// A line that is said once in the life of the process for each `key`.
pub fn once(key: &'static str, text: &str) {
    static SAID: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    {
        let mut said = SAID.lock();
        if said.contains(&key) {
            return;
        }
        said.push(key);
    }
    line(text);
}

/// True when the usual lines are wanted from this process: one of a node's ranks says them.
fn usual() -> bool {
    config::get().verbose > 0 && host::local_rank().unwrap_or(0) == 0
}

/// The driver's version as people know it: `580`, or the CUDA version where that is not known.
pub fn driver_shown(cuda_version: i32) -> String {
    match std::fs::read_to_string("/sys/module/nvidia/version") {
        Ok(text) => text.trim().split('.').next().unwrap_or_default().to_owned(),
        Err(_) => format!("CUDA {}.{}", cuda_version / 1000, cuda_version % 1000 / 10),
    }
}

/// Said when CUDA is up: what was wrong with the options, then the start line. What it introduces
/// is written on the statistics page too.
pub fn started(cards: &[Card], cuda_version: i32) {
    log::install();
    let driver = driver_shown(cuda_version);
    tracing::debug!(?cards, driver, "started");
    stats::page().introduce(cards.iter().map(|c| (c.name.as_str(), c.bytes)));
    stats::page().cuda_version.set(u64::try_from(cuda_version).unwrap_or(0));
    stats::page().driver.set(&driver);
    let loaded = config::loaded();
    let off = loaded.config.disabled.as_deref();
    if let Some(why) = off {
        stats::page().set_passthrough(why);
    }
    if host::local_rank().unwrap_or(0) == 0 {
        // What COLDPRESS_STRICT stumbled over is said with it.
        let wrong = loaded.warnings.iter().filter(|w| !off.is_some_and(|o| o.ends_with(*w)));
        wrong.for_each(|warning| line(warning));
    }
    if let Some(why) = off {
        if usual() || !loaded.warnings.is_empty() {
            once("passthrough", &format!("off: {why}"));
        }
        return;
    }
    if !usual() {
        return;
    }
    let text = start_line(cards, &driver, loaded);
    write(format!("{text}\n").as_bytes());
    if loaded.config.verbose > 1 {
        for setting in &loaded.settings {
            line(&format!("  {}:{} ({})", setting.option.key, setting.value, setting.source()));
        }
    }
}

/// Said after the first eviction of the process that brought something.
pub fn first_eviction(bytes: u64, took: Duration) {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        if config::get().verbose > 0 {
            let rescue = config::get().mode == Mode::Rescue && !config::get().torture;
            let page = stats::page();
            let on_device: u64 = page.devices.iter().map(|d| d.store_used.get()).sum();
            let stored = page.host_used.get() + on_device;
            line(&first(rescue, bytes, stored, took, std::process::id()));
        }
    });
}

/// Said at the end by the process that initialised CUDA. Ranks other than the first of a node
/// speak only when they have something to tell.
pub fn ended() {
    static END: Once = Once::new();
    END.call_once(|| {
        let config = config::get();
        let outcome = Outcome::of(stats::page(), stats::now_ns());
        if config.disabled.is_some() || config.verbose == 0 || !(usual() || outcome.moved()) {
            return;
        }
        let rank = std::env::var("RANK").ok().filter(|_| host::local_rank().is_some());
        let rank = rank.map(|r| format!("rank {r}: ")).unwrap_or_default();
        line(&format!("{rank}{}", ending(&outcome)));
    });
}
