//! Sizes and times as people write and read them.
//!
//! Owns: parsing (`512MiB`, `40%`, `30s`) and printing (`3.2 GiB`, `12 ms`). Never: what a size
//! means. Units are binary whatever they are called: a GPU sold with 80 GB has about 80 GiB.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// A number of bytes, printed in binary units with two or three digits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = scaled(self.0 as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
        f.pad(&text)
    }
}

/// A time, printed in the unit that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of `ns` nanoseconds.
    pub fn from_nanos(ns: u64) -> Span {
        Span(Duration::from_nanos(ns))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos() as f64;
        let text = if ns < 1e9 {
            scaled(ns, 1000.0, &["ns", "us", "ms"])
        } else if ns < 120e9 {
            scaled(ns / 1e9, f64::INFINITY, &["s"])
        } else {
            let minutes = self.0.as_secs() / 60;
            match minutes / 60 {
                0 => format!("{minutes} min"),
                hours => format!("{hours} h {:02} min", minutes % 60),
            }
        };
        f.pad(&text)
    }
}

/// `value` with one decimal below 10, in the first unit that leaves it below `step`.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.95 and the like would print as 1000.0: carry them into the next unit.
    while unit + 1 < units.len() && value >= step - 0.5 {
        value /= step;
        unit += 1;
    }
    let whole = value >= 9.95 || value.fract() == 0.0;
    if whole {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A size that may be relative to something known later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// So many bytes.
    Absolute(u64),
    /// So many hundredths of the whole.
    Percent(f64),
}

impl Size {
    /// The size in bytes when the whole is `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Size::Absolute(bytes) => bytes,
            Size::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }

    /// Reads `512MiB`, `2g`, `1073741824` or `40%`.
    pub fn parse(text: &str) -> Option<Size> {
        let text = text.trim();
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().ok()?;
            return (0.0..=100.0).contains(&percent).then_some(Size::Percent(percent));
        }
        parse_bytes(text).map(Size::Absolute)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Absolute(bytes) => Bytes(*bytes).fmt(f),
            Size::Percent(percent) => f.pad(&format!("{percent}%")),
        }
    }
}

/// Reads `512MiB`, `1.5G`, `64kb` or plain bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let value = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (value >= 0.0 && value < u64::MAX as f64).then_some(value as u64)
}

/// Reads `30s`, `250ms`, `5min` or plain seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let seconds = match unit.to_ascii_lowercase().as_str() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Reads the words people use for yes and no.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Some(true),
        "0" | "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let shown = |b| Bytes(b).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1536), "1.5 KiB");
        assert_eq!(shown(64 << 20), "64 MiB");
        assert_eq!(shown((1 << 30) - 1), "1.0 GiB", "no 1024 MiB");
        assert_eq!(shown(3_435_973_836), "3.2 GiB");
        assert_eq!(shown(u64::MAX), "16384 PiB");
    }

    #[test]
    fn spans_read_well() {
        let shown = |ns| Span::from_nanos(ns).to_string();
        assert_eq!(shown(12_345_678), "12 ms");
        assert_eq!(shown(1_500), "1.5 us");
        assert_eq!(shown(30_000_000_000), "30 s");
        assert_eq!(shown(240_000_000_000), "4 min");
        assert_eq!(shown(7_260_000_000_000), "2 h 01 min");
    }

    #[test]
    fn sizes_are_read_in_every_usual_spelling() {
        for text in ["2GiB", "2G", "2gb", "2 GiB", "2048M", "2147483648", "2.0g"] {
            assert_eq!(parse_bytes(text), Some(2 << 30), "{text}");
        }
        for text in ["", "G", "-1G", "2 apples", "99999999999T", "1e400"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(Size::parse("40%"), Some(Size::Percent(40.0)));
        assert_eq!(Size::parse("140%"), None);
        assert_eq!(Size::Percent(40.0).of(1000), 400);
        assert_eq!(Size::Absolute(7).of(1000), 7);
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        assert_eq!(parse_duration("soon"), None);
        assert_eq!(parse_duration("-1s"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,20}") {
            let _ = (Size::parse(&text), parse_duration(&text), parse_bool(&text));
        }

        #[test]
        fn any_number_is_printed_near_its_value(bytes in 0u64..1 << 50) {
            let read = parse_bytes(&Bytes(bytes).to_string()).expect("reads what it prints");
            proptest::prop_assert!(read.abs_diff(bytes) as f64 <= bytes as f64 * 0.06);
        }
    }
}
