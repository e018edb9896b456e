//! The command line.

use crate::error::{Error, Result};
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
An ordinary CUDA program that keeps more memory than it touches at a time: it loads tensors, runs
kernels and copies over them on several streams, frees, reallocates, reads all of it back, and
prints a digest. The digest depends on the data, the seed and the scale, on nothing else.

usage: coldpress-demo-program [options]

  --data DIR        tensors are the files of this folder (else COLDPRESS_CORPUS, else generated)
  --max-bytes SIZE  read at most this much of them (default: a quarter of the footprint)
  --scale X         footprint in units of 256 MiB (default 1)
  --seed N          seed of every choice (default 1)
  --phases A,B,..   only these of: load forward swap backward churn readback (load always runs)
  --json            one JSON document a phase and one at the end, instead of text
  --step            after each phase wait for a line on standard input
  --help            this text
";

/// The phases, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Tensors from files to the device; a second model and optimizer state beside them.
    Load,
    /// Activations are made, layer by layer.
    Forward,
    /// The second model works while the first is idle; part of it goes to the host and back.
    Swap,
    /// Activations are used once more, last first, and freed.
    Backward,
    /// Free and allocate in random sizes.
    Churn,
    /// Everything is read back.
    Readback,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 6] =
        [Phase::Load, Phase::Forward, Phase::Swap, Phase::Backward, Phase::Churn, Phase::Readback];

    /// Its name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Forward => "forward",
            Phase::Swap => "swap",
            Phase::Backward => "backward",
            Phase::Churn => "churn",
            Phase::Readback => "readback",
        }
    }
}

/// The options of a run.
#[derive(Debug)]
pub struct Options {
    /// Folder of tensors.
    pub data: Option<PathBuf>,
    /// Bound on what is read from it.
    pub max_bytes: usize,
    /// Bytes the program is about to hold at its peak.
    pub footprint: usize,
    /// As given.
    pub seed: u64,
    /// What runs.
    pub phases: Vec<Phase>,
    /// JSON instead of text.
    pub json: bool,
    /// Wait for the parent after each phase.
    pub step: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Print the help.
    Help,
    /// Run.
    Run(Options),
}

const UNIT: f64 = 256.0 * 1024.0 * 1024.0;

/// Reads the command line (without the program's name).
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Command> {
    let mut data =
        std::env::var_os("COLDPRESS_CORPUS").filter(|d| !d.is_empty()).map(PathBuf::from);
    let mut max_bytes = None;
    let (mut scale, mut seed) = (1.0f64, 1u64);
    let mut phases = Phase::ALL.to_vec();
    let (mut json, mut step) = (false, false);
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| args.next())
                .ok_or_else(|| Error::new(format!("{name} needs a value")))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--data" => data = Some(PathBuf::from(value()?)),
            "--max-bytes" => max_bytes = Some(size(&value()?)?),
            "--scale" => scale = number(&name, &value()?)?,
            "--seed" => seed = number(&name, &value()?)?,
            "--phases" => phases = list(&value()?)?,
            "--json" => json = true,
            "--step" => step = true,
            _ => return Err(Error::new(format!("unknown option {name}; --help lists them"))),
        }
    }
    if !(0.01..=1000.0).contains(&scale) {
        return Err(Error::new("--scale must be between 0.01 and 1000"));
    }
    let footprint = (UNIT * scale) as usize;
    let max_bytes = max_bytes.unwrap_or(footprint / 4);
    if max_bytes == 0 {
        return Err(Error::new("--max-bytes must not be 0"));
    }
    Ok(Command::Run(Options { data, max_bytes, footprint, seed, phases, json, step }))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::new(format!("{name}: not a number: {text}")))
}

/// A size in bytes with an optional binary suffix.
fn size(text: &str) -> Result<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(Error::new(format!("not a size: {text} (as 64MiB)"))),
    };
    let number: usize = digits.parse().map_err(|_| Error::new(format!("not a size: {text}")))?;
    number.checked_mul(1 << shift).ok_or_else(|| Error::new(format!("too large: {text}")))
}

/// Phases by name; they run in their own order, and `load` always does.
fn list(text: &str) -> Result<Vec<Phase>> {
    for name in text.split(',') {
        if !Phase::ALL.iter().any(|p| p.name() == name) {
            return Err(Error::new(format!("no phase {name:?}; --help lists them")));
        }
    }
    let asked = |p: &Phase| *p == Phase::Load || text.split(',').any(|name| p.name() == name);
    Ok(Phase::ALL.into_iter().filter(asked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Options> {
        match parse(args.iter().map(|&a| a.to_owned()))? {
            Command::Run(options) => Ok(options),
            Command::Help => Err(Error::new("help")),
        }
    }

    #[test]
    fn reads_values_in_both_forms() {
        let options = run(&["--seed", "7", "--scale=0.5", "--max-bytes", "3MiB", "--json"]);
        let options = options.expect("valid");
        assert_eq!((options.seed, options.footprint, options.max_bytes), (7, 128 << 20, 3 << 20));
        assert!(options.json && !options.step);
    }

    #[test]
    fn phases_keep_their_order() {
        let options = run(&["--phases", "churn,forward"]).expect("valid");
        assert_eq!(options.phases, [Phase::Load, Phase::Forward, Phase::Churn]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (args, what) in [
            (&["--seed"][..], "--seed needs a value"),
            (&["--seed", "x"], "--seed: not a number: x"),
            (&["--scale", "0"], "--scale must be"),
            (&["--phases", "lunch"], "no phase \"lunch\""),
            (&["--max-bytes", "1Q"], "not a size"),
            (&["--max-bytes", "0"], "--max-bytes must not"),
            (&["--fast"], "unknown option --fast"),
        ] {
            let error = run(args).expect_err("invalid").to_string();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
