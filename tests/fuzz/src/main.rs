//! Random driver-API programs against a reference model.
//!
//! Every sequence is a program of its own: it allocates, frees, launches, copies, fills, waits,
//! evicts and restores in an order taken from its seed, on several streams and cards at once, and
//! keeps what each buffer must hold on the host. Conflicting accesses are ordered with events, so the outcome
//! is determined; everything else runs as the driver likes. It runs on any driver; under coldpress
//! it asks for evictions and restores too.

mod check;
mod coldpress;
mod kernels;
mod machine;
mod memory;
mod options;
mod program;
mod reference;
mod requests;
mod rng;
mod script;
mod sequence;
mod shrink;
mod sweep;
mod work;

use options::{HELP, Options};
use sequence::{Failure, Outcome, Plan};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Sequences begun, and the seed of the last one, for the watchdog.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// Exit code of a program whose sequence hangs.
const HANGS: i32 = 3;

/// Ends the program when one sequence takes longer than `timeout`: nobody else can, since the
/// hanging call may never come back.
fn watch(timeout: Duration) {
    std::thread::spawn(move || {
        let mut last = 0;
        let mut since = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let begun = BEGUN.load(Ordering::Relaxed);
            if begun != last {
                last = begun;
                since = Instant::now();
            } else if begun != 0 && since.elapsed() > timeout {
                println!("seed {}: FAILED: hangs", SEED.load(Ordering::Relaxed));
                // What was printed so far says which sequences were fine.
                let _ = std::io::stdout().flush();
                // SAFETY: ends the process at once; nothing is to be saved.
                unsafe { libc::_exit(HANGS) };
            }
        }
    });
}

/// Runs one sequence and says how it went.
fn one(options: &Options, seed: u64, plan: Plan<'_>) -> Result<Outcome, Failure> {
    SEED.store(seed, Ordering::Relaxed);
    BEGUN.fetch_add(1, Ordering::Relaxed);
    let result = sequence::run(options, plan);
    match &result {
        Ok(outcome) => println!("seed {seed}: ok {outcome}"),
        Err(e) => println!("seed {seed}: FAILED: {e}"),
    }
    result
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("cuda-fuzz: {e}");
            return ExitCode::from(2);
        }
    };
    watch(options.timeout);
    if let Some(what) = options.sweep {
        SEED.store(options.seed, Ordering::Relaxed);
        return sweep::sweep(what, &options, || {
            BEGUN.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut totals = Outcome::default();
    let (mut passed, mut bad) = (0, Vec::new());
    let seeds = match options.replay {
        Some(_) => 0..1,
        None => options.seed..options.seed + options.sequences,
    };
    for seed in seeds {
        let plan = options.replay.as_ref().map_or(Plan::Seed(seed), |s| Plan::Script(&s.steps));
        match one(&options, seed, plan) {
            Ok(outcome) => {
                passed += 1;
                totals.add(&outcome);
            }
            Err(failure) => bad.push((seed, failure)),
        }
    }
    BEGUN.store(0, Ordering::Relaxed);
    println!("all: {totals}");
    if let (Some((seed, failure)), None) = (bad.first(), &options.replay)
        && (options.shrink.is_some() || options.save.is_some())
    {
        shrink::shrink(&options, *seed, &failure.done, &failure.to_string());
    }
    println!("{passed} passed, {} failed", bad.len());
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
