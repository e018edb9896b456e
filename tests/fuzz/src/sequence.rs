//! One random program from its start to its end.

use crate::coldpress::Extras;
use crate::options::Options;
use crate::program::Program;
use crate::rng::Rng;
use crate::script::Step;
use cuda_client::Driver;
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
    /// The simulator's high-water mark, of the card that had more.
    pub peak: u64,
    /// Contexts that were ended on the way.
    pub resets: u64,
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
        self.resets += other.resets;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { steps, launches, compared, out_of_memory, .. } = self;
        let Outcome { evictions, restores, over_limit, peak, resets, .. } = self;
        write!(
            f,
            "steps={steps} launches={launches} compared={compared} out_of_memory={out_of_memory} \
             evictions={evictions} restores={restores} over_limit={over_limit} peak={peak} resets={resets}"
        )
    }
}

/// Why a sequence failed.
#[derive(Debug)]
pub struct Failure {
    /// What it had done, the last step being the one that failed.
    pub done: Vec<Step>,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.done.last().map_or("start", |step| &step.name);
        write!(f, "step {} ({last}): {}", self.done.len().saturating_sub(1), self.what)
    }
}

/// Where the steps come from.
#[derive(Clone, Copy, Debug)]
pub enum Plan<'a> {
    /// A seed.
    Seed(u64),
    /// A file.
    Script(&'a [Step]),
}

/// Its first step draws what the program starts with.
const START: &str = "start";

/// Runs a sequence in contexts of its own.
pub fn run(options: &Options, plan: Plan<'_>) -> Result<Outcome, Failure> {
    let mut done = Vec::new();
    match attempt(options, plan, &mut done) {
        Ok(outcome) => Ok(outcome),
        Err(what) => Err(Failure { done, what }),
    }
}

fn attempt(options: &Options, plan: Plan<'_>, done: &mut Vec<Step>) -> Result<Outcome, String> {
    let driver = Driver::load().map_err(|e| e.to_string())?;
    driver.init().map_err(|e| format!("cuInit: {e}"))?;
    let (first, rest) = match plan {
        Plan::Seed(seed) => (Rng::of_step(seed, usize::MAX), &[][..]),
        Plan::Script([first, rest @ ..]) if first.name == START => {
            (Rng::kept(&first.numbers), rest)
        }
        Plan::Script(rest) => (Rng::kept(&[]), rest),
    };
    let mut program =
        Program::new(options, first, driver.clone()).map_err(|e| format!("start: {e}"))?;
    done.push(Step { name: START.into(), numbers: program.rng.take_drawn() });
    let steps = match plan {
        Plan::Seed(_) => options.steps,
        Plan::Script(_) => rest.len(),
    };
    for at in 0..steps {
        let (step, result) = match (plan, rest.get(at)) {
            (Plan::Seed(seed), _) => program.step(seed, at),
            (Plan::Script(_), Some(step)) => program.repeat(step),
            (Plan::Script(_), None) => break,
        };
        done.push(step);
        result.map_err(|e| e.to_string())?;
        program.check_counts()?;
    }
    program.finish()?;
    let outcome = program.outcome;
    program.end().map_err(|e| format!("at the end: {e}"))?;
    let extras = Extras::find(&driver);
    match (0..options.devices).filter_map(|card| extras.used(card)).sum::<u64>() {
        0 => Ok(outcome),
        used => Err(format!("{used} bytes are still in use after the context's end")),
    }
}
