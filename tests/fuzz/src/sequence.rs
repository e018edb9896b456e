//! One random program from its start to its end.

use crate::coldpress::Extras;
use crate::options::Options;
use crate::program::Program;
use cuda_client::{Device, Driver};
use std::fmt;

/// What a sequence did, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Buffers compared with the model.
    pub compared: u64,
    /// Allocations that found no memory; the program went on without.
    pub out_of_memory: u64,
    /// Blocks evicted, as coldpress says.
    pub evictions: u64,
    /// Blocks restored.
    pub restores: u64,
    /// Operations for which the limit had to be passed, as coldpress says.
    pub over_limit: u64,
    /// The simulator's high-water mark.
    pub peak: u64,
}

impl Outcome {
    /// Adds another sequence.
    pub fn add(&mut self, other: &Outcome) {
        self.steps += other.steps;
        self.launches += other.launches;
        self.compared += other.compared;
        self.out_of_memory += other.out_of_memory;
        self.evictions += other.evictions;
        self.restores += other.restores;
        self.over_limit += other.over_limit;
        self.peak = self.peak.max(other.peak);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { steps, launches, compared, out_of_memory, .. } = self;
        let Outcome { evictions, restores, over_limit, peak, .. } = self;
        write!(
            f,
            "steps={steps} launches={launches} compared={compared} out_of_memory={out_of_memory} \
             evictions={evictions} restores={restores} over_limit={over_limit} peak={peak}"
        )
    }
}

/// Why a sequence failed.
#[derive(Debug)]
pub struct Failure {
    step: usize,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)
    }
}

fn start(options: &Options, seed: u64) -> Result<(Driver, Device, Program<'_>), String> {
    let driver = Driver::load().map_err(|e| e.to_string())?;
    driver.init().map_err(|e| format!("cuInit: {e}"))?;
    let (device, _) = driver.start(0).map_err(|e| format!("context: {e}"))?;
    let program = Program::new(options, seed, driver.clone()).map_err(|e| e.to_string())?;
    Ok((driver, device, program))
}

/// Runs the sequence of a seed in a context of its own.
pub fn run(options: &Options, seed: u64) -> Result<Outcome, Failure> {
    let (driver, device, mut program) =
        start(options, seed).map_err(|what| Failure { step: 0, what })?;
    let mut at = 0;
    let mut go = || -> Result<(), String> {
        for &step in &options.steps {
            at = step;
            program.step(step).map_err(|e| e.to_string())?;
            program.check_counts()?;
        }
        program.finish()
    };
    let result = go();
    let outcome = program.outcome;
    let ended = program.end().and_then(|()| driver.primary_release(device));
    let failed = |what| Failure { step: at, what };
    result.map_err(failed)?;
    ended.map_err(|e| failed(format!("at the end: {e}")))?;
    match Extras::find(&driver).used() {
        Some(used) if used != 0 => {
            Err(failed(format!("{used} bytes are still in use after the context's end")))
        }
        _ => Ok(outcome),
    }
}
