//! The command line.

use crate::sweep::Sweep;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
usage: cuda-fuzz [--seed N] [--sequences N] [--steps N] [--only STEPS] [--budget BYTES]
                 [--limit BYTES] [--timeout SECONDS] [--shrink SECONDS] [--verbose]
                 [--sweep count|points|cold]

  --seed N           seed of the first sequence; the next ones count up (default 1)
  --sequences N      how many (default 10)
  --steps N          steps of each (default 200)
  --only STEPS       only these of them, as 0-17,20,31
  --budget BYTES     live bytes a sequence may hold (default 2097152)
  --limit BYTES      what coldpress was told; the simulator's count is checked against it
  --timeout SECONDS  of one sequence; a hang prints its seed and ends the program with 3
                     (default 60)
  --shrink SECONDS   after a failure, looks this long for fewer steps that fail too
  --verbose          prints every step
  --sweep count      how often the sequence calls each function of the driver: `cold` by a fresh
                     process, `warm` by one that has run it before
  --sweep points     runs it for each line NAME:N=CODE of standard input: that call fails
  --sweep cold       runs it in this fresh process; SIMCUDA_FAIL says what fails

Under coldpress on the simulated driver, SIMCUDA_LIBRARY names the simulator's file. Prints one line
a sequence and a last one `N passed, N failed`; exit code 1 if any failed.
";

/// What it says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the first sequence.
    pub seed: u64,
    /// How many.
    pub sequences: u64,
    /// The steps taken, in order.
    pub steps: Vec<usize>,
    /// Live bytes a sequence may hold.
    pub budget: usize,
    /// What coldpress was told.
    pub limit: Option<u64>,
    /// Of one sequence.
    pub timeout: Duration,
    /// How long to look for a shorter program.
    pub shrink: Option<Duration>,
    /// Run it with failing calls instead.
    pub sweep: Option<Sweep>,
    /// Print every step.
    pub verbose: bool,
}

impl Options {
    /// Reads the arguments; `None` asks for help.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            seed: 1,
            sequences: 10,
            steps: Vec::new(),
            budget: 2 << 20,
            limit: None,
            timeout: Duration::from_secs(60),
            shrink: None,
            sweep: None,
            verbose: false,
        };
        let mut steps = 200;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--verbose" => {
                    options.verbose = true;
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value\n{HELP}"))?;
            if arg == "--only" {
                options.steps = parse_steps(&value)?;
                continue;
            }
            if arg == "--sweep" {
                let what = Sweep::parse(&value);
                options.sweep =
                    Some(what.ok_or_else(|| format!("{arg} {value}: unknown\n{HELP}"))?);
                continue;
            }
            let number: u64 = value.parse().map_err(|_| format!("{arg} {value}: not a number"))?;
            match arg.as_str() {
                "--seed" => options.seed = number,
                "--sequences" => options.sequences = number,
                "--steps" => steps = number as usize,
                "--budget" => options.budget = number as usize,
                "--limit" => options.limit = Some(number),
                "--timeout" => options.timeout = Duration::from_secs(number),
                "--shrink" => options.shrink = Some(Duration::from_secs(number)),
                _ => return Err(format!("{arg}: unknown\n{HELP}")),
            }
        }
        if options.steps.is_empty() {
            options.steps = (0..steps).collect();
        }
        Ok(Some(options))
    }
}

/// `0-17,20` as a list.
fn parse_steps(text: &str) -> Result<Vec<usize>, String> {
    let number = |t: &str| t.parse::<usize>().map_err(|_| format!("--only {text}: not steps"));
    let mut steps = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        steps.extend(number(first)?..=number(last)?);
    }
    Ok(steps)
}

/// The list as `0-17,20`.
pub fn show_steps(steps: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for run in steps.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [only] => parts.push(only.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    parts.join(",")
}
