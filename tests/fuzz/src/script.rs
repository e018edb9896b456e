//! A program written down: settings, and operations with the numbers each of them drew.
//!
//! One line each: `set NAME=VALUE` for the environment, `budget N`, `limit N`, `devices N`, and
//! `do NAME NUMBERS..` for an operation. `#` begins a remark. Operations that are not known any
//! more are an error: a regression that no longer does anything must be seen.

use std::fmt::Write as _;
use std::path::Path;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, one of `program::OPERATIONS`.
    pub name: String,
    /// What it drew, in order.
    pub numbers: Vec<u64>,
}

/// A whole program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Remarks at its head.
    pub remarks: Vec<String>,
    /// The environment it failed in, without files.
    pub settings: Vec<(String, String)>,
    /// Numbers of the command line, by name.
    pub options: Vec<(String, u64)>,
    /// The operations.
    pub steps: Vec<Step>,
}

/// Settings that name files of one machine.
const PLACES: [&str; 4] =
    ["SIMCUDA_LIBRARY", "SIMCUDA_REPORT", "SIMCUDA_TRACE", "COLDPRESS_REAL_LIBCUDA"];

/// The environment of this process that another one needs to behave the same.
pub fn environment() -> Vec<(String, String)> {
    let ours = |name: &str| {
        (name.starts_with("SIMCUDA_") || name.starts_with("COLDPRESS_")) && !PLACES.contains(&name)
    };
    let mut all: Vec<_> = std::env::vars().filter(|(name, _)| ours(name)).collect();
    all.sort();
    all
}

impl Script {
    /// Reads one.
    pub fn load(path: &Path) -> Result<Script, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Script::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Writes it.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.text())
    }

    fn parse(text: &str) -> Result<Script, String> {
        let mut script = Script::default();
        for (line, at) in text.lines().zip(1..) {
            let bad = || format!("line {at}: {line}");
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "" => {}
                "#" => script.remarks.push(rest.to_owned()),
                "set" => {
                    let (name, value) = rest.split_once('=').ok_or_else(bad)?;
                    script.settings.push((name.to_owned(), value.to_owned()));
                }
                "do" => {
                    let mut words = rest.split_whitespace();
                    let name = words.next().ok_or_else(bad)?.to_owned();
                    let numbers: Result<_, _> = words.map(str::parse).collect();
                    script.steps.push(Step { name, numbers: numbers.map_err(|_| bad())? });
                }
                option => {
                    let number = rest.parse().map_err(|_| bad())?;
                    script.options.push((option.to_owned(), number));
                }
            }
        }
        Ok(script)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for remark in &self.remarks {
            let _ = writeln!(text, "# {remark}");
        }
        for (name, value) in &self.settings {
            let _ = writeln!(text, "set {name}={value}");
        }
        for (name, number) in &self.options {
            let _ = writeln!(text, "{name} {number}");
        }
        for Step { name, numbers } in &self.steps {
            let _ = write!(text, "do {name}");
            for number in numbers {
                let _ = write!(text, " {number}");
            }
            text.push('\n');
        }
        text
    }
}
