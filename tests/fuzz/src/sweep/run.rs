//! A sequence that goes on after an error.

use super::simulator::Simulator;
use crate::check::Trouble;
use crate::coldpress::Extras;
use crate::options::Options;
use crate::program::Program;
use cuda_client::{Code, Context, Device, Driver};
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
    let (device, mut context) =
        start(&driver, &mut ran.refused).map_err(|e| format!("start: {e}"))?;
    let mut program = None;
    // What an attempt that failed has made goes with the context.
    for _ in 0..2 {
        match Program::new(options, options.seed, driver.clone()) {
            Ok(made) => program = Some(made),
            Err(_) => {
                ran.refused += 1;
                let anew = driver.primary_release(device).and_then(|()| driver.start(0));
                (_, context) = anew.map_err(|e| format!("a new start: {e}"))?;
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
    program.end().map_err(|e| format!("at the end: {e}"))?;
    ran.refused += refusals.get();
    only_context(&driver, context, &mut ran.refused)?;
    again(&mut ran.refused, || driver.primary_release(device))
        .map_err(|e| format!("release: {e}"))?;
    ran.off = off || Extras::find(&driver).stats().is_some_and(|s| s.eviction_off != 0);
    ran.left = simulator.left();
    let used = Extras::find(&driver).used().unwrap_or(0);
    if used != 0 && ran.left.is_empty() {
        return Err(format!("{used} bytes are still in use, and nothing that holds them"));
    }
    Ok(ran)
}

fn start(driver: &Driver, refused: &mut u32) -> Result<(Device, Context), Code> {
    again(refused, || driver.init())?;
    let device = again(refused, || driver.device(0))?;
    let context = again(refused, || driver.primary_retain(device))?;
    again(refused, || driver.ctx_set_current(context))?;
    Ok((device, context))
}

/// All steps; a step that is refused has changed nothing.
fn go(options: &Options, program: &mut Program<'_>, ran: &mut Ran) -> Result<(), String> {
    for &step in &options.steps {
        match program.step(step) {
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
    Ok(())
}
