//! Random driver-API programs against a reference model.
//!
//! Every sequence is a program of its own: it allocates, frees, launches, copies, fills, waits,
//! evicts and restores in an order taken from its seed, on several streams at once, and keeps what
//! each buffer must hold on the host. Conflicting accesses are ordered with events, so the outcome
//! is determined; everything else runs as the driver likes. It runs on any driver; under coldpress
//! it asks for evictions and restores too.

mod coldpress;
mod kernels;
mod machine;
mod reference;
mod rng;
mod sequence;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HELP: &str = "\
usage: cuda-fuzz [--seed N] [--sequences N] [--steps N] [--budget BYTES] [--limit BYTES]
                 [--timeout SECONDS] [--verbose]

  --seed N        seed of the first sequence; the next ones count up (default 1)
  --sequences N   how many (default 10)
  --steps N       steps of each (default 200)
  --budget BYTES  live bytes a sequence may hold (default 2 MiB)
  --limit BYTES   what coldpress was told; the simulator's peak is checked against it
  --timeout S     of one sequence; a hang prints its seed and ends the program with 3 (default 60)
  --verbose       prints every step

Prints one line a sequence and a last one `N passed, N failed`; exit code 1 if any failed.
";

/// Seed and time of the running sequence, for the watchdog.
static RUNNING: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    seed: u64,
    sequences: u64,
    steps: usize,
    budget: usize,
    limit: Option<u64>,
    timeout: u64,
    verbose: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        sequences: 10,
        steps: 200,
        budget: 2 << 20,
        limit: None,
        timeout: 60,
        verbose: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--verbose" {
            options.verbose = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{arg} needs a value\n{HELP}"))?;
        let number: u64 = value.parse().map_err(|_| format!("{arg} {value}: not a number"))?;
        match arg.as_str() {
            "--seed" => options.seed = number,
            "--sequences" => options.sequences = number,
            "--steps" => options.steps = number as usize,
            "--budget" => options.budget = number as usize,
            "--limit" => options.limit = Some(number),
            "--timeout" => options.timeout = number,
            _ => return Err(format!("{arg}: unknown\n{HELP}")),
        }
    }
    Ok(options)
}

fn watch(timeout: u64) {
    std::thread::spawn(move || {
        let mut last = 0;
        let mut since = std::time::Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = RUNNING.load(Ordering::Relaxed);
            if now != last {
                last = now;
                since = std::time::Instant::now();
            } else if now != 0 && since.elapsed() > Duration::from_secs(timeout) {
                eprintln!("cuda-fuzz: seed {} hangs", SEED.load(Ordering::Relaxed));
                // SAFETY: ends the process at once; nothing is to be saved.
                unsafe { libc::_exit(3) };
            }
        }
    });
}

fn main() -> ExitCode {
    if std::env::args().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match options() {
        Ok(options) => options,
        Err(e) => {
            eprintln!("cuda-fuzz: {e}");
            return ExitCode::from(2);
        }
    };
    watch(options.timeout);
    let (mut passed, mut failed) = (0, 0);
    let mut totals = sequence::Outcome::default();
    for i in 0..options.sequences {
        let seed = options.seed + i;
        SEED.store(seed, Ordering::Relaxed);
        RUNNING.fetch_add(1, Ordering::Relaxed);
        match sequence::run(&options, seed) {
            Ok(outcome) => {
                passed += 1;
                totals.add(&outcome);
                if options.verbose {
                    println!("seed {seed}: ok {outcome:?}");
                }
            }
            Err(e) => {
                failed += 1;
                println!("seed {seed}: FAILED: {e}");
                println!(
                    "  again: cuda-fuzz --seed {seed} --sequences 1 --steps {} --verbose",
                    e.step + 1
                );
            }
        }
    }
    println!("seeds {}..{} {totals:?}", options.seed, options.seed + options.sequences);
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
