//! A sequence that goes on after an error.

use super::simulator::Simulator;
use crate::check::Trouble;
use crate::coldpress::Extras;
use crate::options::Options;
use crate::program::Program;
use crate::rng::Rng;
use cuda_client::{Code, Context, Driver};
use std::fmt;

/// How a run ended that ended well.
#[derive(Debug, Default)]
pub struct Ran {
    /// Calls that returned an error to the program.
    pub refused: u32,
    /// What is left in the driver.
    pub left: Vec<(&'static str, u64)>,
    /// Eviction is off now.
    pub off: bool,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused={} off={} left=", self.refused, u8::from(self.off))?;
        for (i, (what, n)) in self.left.iter().enumerate() {
            write!(f, "{}{what}:{n}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Does what a program does that can live with one error: tries once more.
fn again<T>(refused: &mut u32, mut f: impl FnMut() -> Result<T, Code>) -> Result<T, Code> {
    f().or_else(|_| {
        *refused += 1;
        f()
    })
}

/// Runs the sequence of the options' seed.
pub fn run(options: &Options, simulator: &Simulator) -> Result<Ran, String> {
    let mut ran = Ran::default();
    let driver = Driver::load().map_err(|e| e.to_string())?;
    again(&mut ran.refused, || driver.init()).map_err(|e| format!("start: {e}"))?;
    let mut program = None;
    // What an attempt that failed has made goes with the context.
    for _ in 0..2 {
        // 1: in the primary context.
        match Program::new(options, Rng::kept(&[1]), driver.clone()) {
            Ok(made) => program = Some(made),
            Err(_) => {
                ran.refused += 1;
                // Retained, if it came that far.
                let _ = driver.device(0).and_then(|device| driver.primary_release(device));
                continue;
            }
        }
        break;
    }
    let mut program = program.ok_or("twice nothing could be made")?;
    program.machine.patient = true;
    go(options, &mut program, &mut ran)?;
    let off = program.extras.stats().is_some_and(|s| s.eviction_off != 0);
    let refusals = program.machine.refusals.clone();
    only_context(&driver, program.machine.cards[0].context, &mut ran.refused)?;
    program.end().map_err(|e| format!("at the end: {e}"))?;
    ran.refused += refusals.get();
    ran.off = off || Extras::find(&driver).stats().is_some_and(|s| s.eviction_off != 0);
    ran.left = simulator.left();
    let used = Extras::find(&driver).used(0).unwrap_or(0);
    if used != 0 && ran.left.is_empty() {
        return Err(format!("{used} bytes are still in use, and nothing that holds them"));
    }
    Ok(ran)
}

/// All steps; a step that is refused has changed nothing.
fn go(options: &Options, program: &mut Program, ran: &mut Ran) -> Result<(), String> {
    for step in 0..options.steps {
        match program.step(options.seed, step).1 {
            Ok(()) => {}
            Err(Trouble::Driver(code)) => {
                ran.refused += 1;
                if options.verbose {
                    eprintln!("step {step} is refused: {code}");
                }
            }
            Err(Trouble::Wrong(what)) => return Err(format!("step {step}: {what}")),
        }
        program.check_counts().map_err(|e| format!("after step {step}: {e}"))?;
    }
    program.finish()
}

/// The thread's stack of contexts is as the program left it: its own and nothing else.
fn only_context(driver: &Driver, own: Context, refused: &mut u32) -> Result<(), String> {
    let popped = again(refused, || driver.ctx_pop()).map_err(|e| format!("pop: {e}"))?;
    let below = again(refused, || driver.ctx_current()).map_err(|e| format!("current: {e}"))?;
    if popped != own || below != Context::NULL {
        return Err(format!("the contexts of the thread are {popped:?} on {below:?}"));
    }
    again(refused, || driver.ctx_set_current(own)).map_err(|e| format!("current: {e}"))
}
