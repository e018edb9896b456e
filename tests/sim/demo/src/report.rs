//! What the program prints: a line a phase and a line at the end, as text or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// One finished phase.
#[derive(Debug)]
pub struct PhaseReport {
    /// Name of the phase.
    pub phase: &'static str,
    /// Over all that is held, or was read back.
    pub digest: u64,
    /// Held at its end.
    pub bytes_live: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// The simulator's count of its memory, if there is one.
    pub peak: Option<u64>,
}

/// The whole run.
#[derive(Debug)]
pub struct RunReport {
    /// Over all phases.
    pub digest: u64,
    /// The most held.
    pub footprint: usize,
    /// Read back and checked.
    pub bytes_read: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Copies and memsets.
    pub copies: u64,
    /// Allocations.
    pub allocations: u64,
    /// Where the tensors are from.
    pub data: String,
    /// Bytes of them.
    pub data_bytes: usize,
    /// `ptx` or `cpu`.
    pub image: &'static str,
    /// Name of the card.
    pub card: String,
    /// As given.
    pub seed: u64,
    /// The simulator's count of its memory, if there is one.
    pub peak: Option<u64>,
}

impl PhaseReport {
    /// As one line.
    pub fn line(&self, json: bool) -> String {
        if json {
            return object(&[
                ("schema", text("demo_program.phase")),
                ("version", "1".to_owned()),
                ("phase", text(self.phase)),
                ("digest", text(&hex(self.digest))),
                ("bytes_live", self.bytes_live.to_string()),
                ("elapsed_ns", self.elapsed.as_nanos().to_string()),
                ("phase_peak_bytes", optional(self.peak)),
            ]);
        }
        let live = mib(self.bytes_live as u64);
        let peak = self.peak.map_or(String::new(), |p| format!(", device peak {}", mib(p)));
        let seconds = self.elapsed.as_secs_f64();
        let digest = hex(self.digest);
        format!("{:<9} digest {digest}, {live} held{peak}, {seconds:.1} s", self.phase)
    }
}

impl RunReport {
    /// As one line.
    pub fn line(&self, json: bool) -> String {
        if json {
            return object(&[
                ("schema", text("demo_program.run")),
                ("version", "1".to_owned()),
                ("digest", text(&hex(self.digest))),
                ("footprint_bytes", self.footprint.to_string()),
                ("bytes_read_back", self.bytes_read.to_string()),
                ("launches", self.launches.to_string()),
                ("copies", self.copies.to_string()),
                ("allocations", self.allocations.to_string()),
                ("data", text(&self.data)),
                ("data_bytes", self.data_bytes.to_string()),
                ("image", text(self.image)),
                ("device", text(&self.card)),
                ("seed", self.seed.to_string()),
                ("simulator_peak_bytes", optional(self.peak)),
            ]);
        }
        let peak = self.peak.map_or(String::new(), |p| format!("; device peak {}", mib(p)));
        format!(
            "digest {}; footprint {}; {} launches, {} copies, {} allocations; {} read back{peak}",
            hex(self.digest),
            mib(self.footprint as u64),
            self.launches,
            self.copies,
            self.allocations,
            mib(self.bytes_read),
        )
    }
}

/// Prints a line at once, whatever standard output is.
pub fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn object(fields: &[(&str, String)]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in fields.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{name}\":{value}");
    }
    out.push('}');
    out
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn optional(value: Option<u64>) -> String {
    value.map_or("null".to_owned(), |v| v.to_string())
}

fn hex(value: u64) -> String {
    format!("{value:016x}")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped() {
        assert_eq!(text("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
        assert_eq!(object(&[("a", optional(None)), ("b", text("c"))]), "{\"a\":null,\"b\":\"c\"}");
    }
}
