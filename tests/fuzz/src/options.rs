//! The command line.

use crate::script::Script;
use crate::sweep::Sweep;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
usage: cuda-fuzz [--seed N] [--sequences N] [--steps N] [--devices N] [--budget BYTES]
                 [--limit BYTES] [--timeout SECONDS] [--shrink SECONDS] [--save FOLDER]
                 [--replay FILE] [--verbose] [--sweep count|points|cold|panic]

  --seed N           seed of the first sequence; the next ones count up (default 1)
  --sequences N      how many (default 10)
  --steps N          steps of each (default 200)
  --devices N        cards in use (default 1)
  --budget BYTES     live bytes a sequence may hold (default 2097152)
  --limit BYTES      what coldpress was told; the simulator's count is checked against it
  --timeout SECONDS  of one sequence; a hang prints its seed and ends the program with 3
                     (default 60)
  --shrink SECONDS   after a failure, looks this long for fewer steps that fail too
  --save FOLDER      after a failure, writes the program there, shrunk if that was asked for
  --replay FILE      runs a program that was written; the environment is the caller's
  --verbose          prints every step
  --sweep count      how often the sequence calls each function of the driver: `cold` by a fresh
                     process, `warm` by one that has run it before
  --sweep points     runs it for each line NAME:N=CODE of standard input: that call fails
  --sweep cold       runs it in this fresh process; SIMCUDA_FAIL says what fails
  --sweep panic      as cold; TEST_COLDPRESS_PANIC says where the library panics

Under coldpress on the simulated driver, SIMCUDA_LIBRARY names the simulator's file, and
CUDA_FUZZ_COLDPRESS the command for `off` and `on`. Prints one line a sequence and a last one
`N passed, N failed`; exit code 1 if any failed.
";

/// What it says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the first sequence.
    pub seed: u64,
    /// How many.
    pub sequences: u64,
    /// Steps of each.
    pub steps: usize,
    /// Cards in use.
    pub devices: usize,
    /// Live bytes a sequence may hold.
    pub budget: usize,
    /// What coldpress was told.
    pub limit: Option<u64>,
    /// Of one sequence.
    pub timeout: Duration,
    /// How long to look for a shorter program.
    pub shrink: Option<Duration>,
    /// Where to write a program that fails.
    pub save: Option<PathBuf>,
    /// A program to run instead of seeds.
    pub replay: Option<Script>,
    /// Run it with failing calls instead.
    pub sweep: Option<Sweep>,
    /// The driver was told to refuse calls.
    pub refused: bool,
    /// Print every step.
    pub verbose: bool,
}

impl Options {
    /// Reads the arguments; `None` asks for help.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            seed: 1,
            sequences: 10,
            steps: 200,
            devices: 1,
            budget: 2 << 20,
            limit: None,
            timeout: Duration::from_secs(60),
            shrink: None,
            save: None,
            replay: None,
            sweep: None,
            refused: std::env::var_os("SIMCUDA_FAIL").is_some(),
            verbose: false,
        };
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
            match arg.as_str() {
                "--save" => options.save = Some(value.into()),
                "--sweep" => {
                    let what = Sweep::parse(&value);
                    options.sweep =
                        Some(what.ok_or_else(|| format!("{arg} {value}: unknown\n{HELP}"))?);
                    options.refused = true;
                }
                "--replay" => {
                    let script = Script::load(value.as_ref())?;
                    for (name, number) in &script.options {
                        options.set(&format!("--{name}"), *number)?;
                    }
                    options.replay = Some(script);
                }
                _ => {
                    let number = value.parse().map_err(|_| format!("{arg} {value}: no number"))?;
                    options.set(&arg, number)?;
                }
            }
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, number: u64) -> Result<(), String> {
        match name {
            "--seed" => self.seed = number,
            "--sequences" => self.sequences = number,
            "--steps" => self.steps = number as usize,
            "--devices" => self.devices = number as usize,
            "--budget" => self.budget = number as usize,
            "--limit" => self.limit = Some(number),
            "--timeout" => self.timeout = Duration::from_secs(number),
            "--shrink" => self.shrink = Some(Duration::from_secs(number)),
            _ => return Err(format!("{name}: unknown\n{HELP}")),
        }
        Ok(())
    }

    /// What another process must be told to run the same program.
    pub fn shape(&self) -> Vec<(String, u64)> {
        let mut all = vec![
            ("devices".to_owned(), self.devices as u64),
            ("budget".to_owned(), self.budget as u64),
        ];
        all.extend(self.limit.map(|limit| ("limit".to_owned(), limit)));
        all
    }
}
