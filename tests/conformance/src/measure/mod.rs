//! Measurements of a driver that decide how coldpress behaves on it; see docs/hardware.md.
//!
//! Each is a small program in the driver API and returns plain JSON. What the numbers mean, and
//! what changes for each answer, is not decided here.

mod capture;
mod map_cost;
mod map_overlap;
mod pointers;
mod reserve;

use crate::case::Stop;
use crate::context::Cx;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One measurement.
struct Measurement {
    name: &'static str,
    question: &'static str,
    run: fn(&Cx) -> Result<Value, Stop>,
}

const ALL: &[Measurement] = &[
    Measurement {
        name: "map-cost",
        question: "What do Create, Map, SetAccess, Unmap and Release cost by size and count?",
        run: map_cost::run,
    },
    Measurement {
        name: "map-overlap",
        question: "Does mapping wait for running kernels, and do kernels wait for mapping?",
        run: map_overlap::run,
    },
    Measurement {
        name: "capture",
        question: "Which calls does a stream capture survive, by mode and thread?",
        run: capture::run,
    },
    Measurement {
        name: "reserve",
        question: "Are address hints honoured, and how much can be reserved?",
        run: reserve::run,
    },
    Measurement {
        name: "pointers",
        question: "What do queries answer on reserved, mapped and unmapped addresses?",
        run: pointers::run,
    },
];

/// Names, comma separated.
pub fn names() -> String {
    ALL.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
}

/// Takes one measurement.
pub fn run(name: &str, cx: &Cx) -> Result<Value, String> {
    let found = ALL.iter().find(|m| m.name == name);
    let measurement = found.ok_or_else(|| format!("unknown measurement {name}: {}", names()))?;
    match (measurement.run)(cx) {
        Ok(data) => Ok(json!({
            "schema": "cuda.measurement",
            "version": 1,
            "name": measurement.name,
            "question": measurement.question,
            "data": data,
        })),
        Err(Stop::Skip(why) | Stop::Fail(why)) => Err(format!("{name}: {why}")),
    }
}

/// Durations of one thing done many times.
#[derive(Debug, Default)]
struct Times(Vec<u64>);

impl Times {
    /// Does it once more.
    fn time<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = f();
        self.push(start.elapsed());
        result
    }

    fn push(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The value below which a fraction of all lie.
    fn quantile(&self, fraction: f64) -> Option<u64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((last as f64 * fraction).round() as usize).copied()
    }

    /// All of it in nanoseconds.
    fn json(&self) -> Value {
        json!({
            "count": self.0.len(),
            "median_ns": self.quantile(0.5),
            "p99_ns": self.quantile(0.99),
            "max_ns": self.quantile(1.0),
        })
    }
}

/// A result as text: `ok` or the code's name.
fn said<T>(result: &cuda_client::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(code) => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let times = Times((1..=101).collect());
        assert_eq!(times.quantile(0.0), Some(1));
        assert_eq!(times.quantile(0.5), Some(51));
        assert_eq!(times.quantile(1.0), Some(101));
        assert_eq!(Times::default().quantile(0.5), None);
    }
}
