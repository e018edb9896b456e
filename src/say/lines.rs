//! The wording. Pure, so that tests can hold every line to the letter.

use crate::config::{Loaded, Mode, Origin};
use crate::stats::Page;
use crate::units::{Bytes, Span};
use std::time::Duration;

/// A card as it is introduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The driver's name for it.
    pub name: String,
    /// Its memory in bytes.
    pub bytes: u64,
}

/// `2x H200 141 GB`: the cards, equal ones together.
pub fn machine(cards: &[Card]) -> String {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for card in cards {
        let name = card.name.strip_prefix("NVIDIA ").unwrap_or(&card.name);
        let text = format!("{name} {}", card_size(card.bytes));
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, n)) => *n += 1,
            None => groups.push((text, 1)),
        }
    }
    let shown: Vec<String> = groups
        .into_iter()
        .map(|(text, n)| if n == 1 { text } else { format!("{n}x {text}") })
        .collect();
    if shown.is_empty() { "no device".to_owned() } else { shown.join(" + ") }
}

/// Cards are known by what is printed on the box: the next whole number of binary gigabytes.
fn card_size(bytes: u64) -> String {
    if bytes < 1 << 30 {
        Bytes(bytes).to_string()
    } else {
        format!("{} GB", bytes.div_ceil(1 << 30))
    }
}

/// `coldpress 0.1: rescue, H200 141 GB, driver 580, verify on (off: COLDPRESS_DISABLE=1)`.
pub fn start_line(cards: &[Card], driver: &str, loaded: &Loaded) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let version = version.rsplit_once('.').map_or(version, |(short, _)| short);
    let mut parts = Vec::new();
    for setting in &loaded.settings {
        let key = setting.option.key;
        match key {
            "mode" => {
                parts.push(setting.value.clone());
                parts.push(machine(cards));
                parts.push(format!("driver {driver}"));
            }
            "limit" if setting.origin != Origin::Default => {
                parts.push(format!("limit {}", loaded.config.limit));
            }
            "verify" => parts.push(format!("verify {}", setting.value)),
            _ if setting.origin != Origin::Default => {
                parts.push(format!("{} {}", key.replace('_', " "), setting.value));
            }
            _ => {}
        }
    }
    format!("coldpress {version}: {} (off: COLDPRESS_DISABLE=1)", parts.join(", "))
}

/// `out of memory avoided: 3.2 GiB squeezed to 2.2 GiB in 12 ms; watch: coldpress stat 4711`.
/// `stored` are the host bytes the evicted ones take, 0 when not known.
pub fn first(rescue: bool, bytes: u64, stored: u64, took: Duration, pid: u32) -> String {
    let what = if rescue { "out of memory avoided" } else { "first eviction" };
    let size = if (1..bytes).contains(&stored) {
        format!("squeezed to {}", Bytes(stored))
    } else {
        "moved to host memory".to_owned()
    };
    format!("{what}: {} {size} in {}; watch: coldpress stat {pid}", Bytes(bytes), Span(took))
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Why nothing was managed, if so.
    pub passthrough: Option<String>,
    /// Why eviction went off, if so.
    pub eviction_off: Option<String>,
    /// Whether allocations were only observed.
    pub traced: bool,
    /// Allocations made.
    pub allocations: u64,
    /// Highest memory held, all cards.
    pub peak: u64,
    /// Allocations that would have failed.
    pub avoided: u64,
    /// Bytes evicted.
    pub evicted: u64,
    /// Bytes restored.
    pub restored: u64,
    /// Nanoseconds operations waited.
    pub waited_ns: u64,
    /// Nanoseconds since CUDA was initialised.
    pub run_ns: u64,
    /// Bytes checked.
    pub verified: u64,
    /// Checks that failed.
    pub failures: u64,
}

impl Outcome {
    /// Reads the page of a process that ends at `now_ns`.
    pub fn of(page: &Page, now_ns: u64) -> Outcome {
        Outcome {
            passthrough: page.passthrough.get(),
            eviction_off: page.eviction_off.get(),
            traced: crate::config::get().mode == Mode::Trace,
            allocations: page.allocations.get(),
            peak: page.used_devices().iter().map(|d| d.peak.get()).sum(),
            avoided: page.oom_avoided.get(),
            evicted: page.evicted_bytes.get(),
            restored: page.restored_bytes.get(),
            waited_ns: page.launch_waits.sum_ns(),
            run_ns: now_ns.saturating_sub(page.opened_ns.get()),
            verified: page.bytes_verified.get(),
            failures: page.verify_failures.get(),
        }
    }

    /// True when memory was moved or a check failed: worth a line from any rank.
    pub fn moved(&self) -> bool {
        self.evicted > 0 || self.failures > 0
    }
}

/// The line at the end.
pub fn ending(outcome: &Outcome) -> String {
    let off = outcome.eviction_off.as_ref().map(|w| format!("; eviction off: {w}"));
    let off = off.unwrap_or_default();
    if !outcome.moved() {
        if let Some(why) = outcome.passthrough.as_ref().filter(|_| !outcome.traced) {
            return format!("managed nothing: {why}");
        }
        if outcome.traced {
            return format!("{} allocations seen, nothing moved (mode:trace)", outcome.allocations);
        }
        return format!("no help was needed: peak {}, nothing moved{off}", Bytes(outcome.peak));
    }
    let saved = match outcome.avoided {
        0 => String::new(),
        1 => "1 out of memory avoided, ".to_owned(),
        n => format!("{n} out of memory avoided, "),
    };
    let failures = match outcome.failures {
        0 => String::new(),
        n => format!(" ({n} FAILED)"),
    };
    format!(
        "{saved}{} moved out and {} back; waited {} of the run; {} verified{failures}{off}; \
         tune: coldpress env",
        Bytes(outcome.evicted),
        Bytes(outcome.restored),
        percent(outcome.waited_ns, outcome.run_ns),
        Bytes(outcome.verified),
    )
}

fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    match part as f64 * 100.0 / whole as f64 {
        p if p < 0.1 => "< 0.1 %".to_owned(),
        p if p < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn card(name: &str, bytes: u64) -> Card {
        Card { name: name.to_owned(), bytes }
    }

    fn loaded(conf: &str) -> Loaded {
        Loaded::from_variables(vec![("COLDPRESS_CONF".to_owned(), conf.to_owned())])
    }

    #[test]
    fn the_start_line() {
        let h200 = card("NVIDIA H200", 150_754_820_096);
        assert_eq!(
            start_line(std::slice::from_ref(&h200), "580", &loaded("")),
            "coldpress 0.1: rescue, H200 141 GB, driver 580, verify on (off: COLDPRESS_DISABLE=1)"
        );
        assert_eq!(
            start_line(
                &[h200.clone(), h200, card("Tiny", 64 << 20)],
                "CUDA 12.4",
                &loaded("mode:active,limit:1048576,watermark:5%,verify:restore")
            ),
            "coldpress 0.1: active, 2x H200 141 GB + Tiny 64 MiB, driver CUDA 12.4, limit 1 MiB, \
             verify restore, watermark 5% (off: COLDPRESS_DISABLE=1)"
        );
    }

    #[test]
    fn the_first_eviction() {
        let took = Duration::from_millis(12);
        assert_eq!(
            first(true, 3_435_973_836, 2_362_232_013, took, 4711),
            "out of memory avoided: 3.2 GiB squeezed to 2.2 GiB in 12 ms; \
             watch: coldpress stat 4711"
        );
        assert_eq!(
            first(false, GIB, GIB, took, 4711),
            "first eviction: 1 GiB moved to host memory in 12 ms; watch: coldpress stat 4711"
        );
    }

    #[test]
    fn the_end_of_a_job_that_was_helped() {
        let mut outcome = Outcome {
            avoided: 14,
            peak: 56 * GIB,
            evicted: 12 * GIB,
            restored: 11 * GIB,
            waited_ns: 420_000_000,
            run_ns: 60_000_000_000,
            verified: 23 * GIB,
            ..Outcome::default()
        };
        assert_eq!(
            ending(&outcome),
            "14 out of memory avoided, 12 GiB moved out and 11 GiB back; waited 0.7 % of the run; \
             23 GiB verified; tune: coldpress env"
        );
        outcome.avoided = 1;
        outcome.waited_ns = 0;
        outcome.failures = 2;
        outcome.eviction_off = Some("cuIpcGetMemHandle was called".to_owned());
        assert_eq!(
            ending(&outcome),
            "1 out of memory avoided, 12 GiB moved out and 11 GiB back; waited 0 % of the run; \
             23 GiB verified (2 FAILED); eviction off: cuIpcGetMemHandle was called; \
             tune: coldpress env"
        );
    }

    #[test]
    fn the_end_of_a_job_that_needed_no_help() {
        let mut outcome = Outcome { peak: 3 * GIB, run_ns: 1, ..Outcome::default() };
        assert_eq!(ending(&outcome), "no help was needed: peak 3 GiB, nothing moved");
        outcome.passthrough = Some("no device".to_owned());
        assert_eq!(ending(&outcome), "managed nothing: no device");
        outcome.traced = true;
        outcome.allocations = 12;
        assert_eq!(ending(&outcome), "12 allocations seen, nothing moved (mode:trace)");
    }

    #[test]
    fn shares_of_the_run() {
        assert_eq!(percent(1, 1_000_000), "< 0.1 %");
        assert_eq!(percent(5, 100), "5.0 %");
        assert_eq!(percent(50, 100), "50 %");
        assert_eq!(percent(50, 0), "0 %");
    }
}
