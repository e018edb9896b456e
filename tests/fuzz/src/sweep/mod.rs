//! `--sweep`: programs in which one call of the driver fails, whichever it is.
//!
//! The caller (tests/faults.rs) decides which calls; here each becomes a run of the sequence in
//! which the simulator lets that call fail, whether the program made it or the library under it. The
//! program goes on after an error: what was refused did not happen. At its end everything is what
//! the model says, and nothing is left of it in the driver but what the failing call itself kept.

mod run;
mod simulator;

use crate::options::Options;
use cuda_client::Driver;
use run::Ran;
use simulator::Simulator;
use std::io::BufRead as _;
use std::process::ExitCode;

/// What a sweep process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Says how often each function is called: `cold NAME N` by the first run of a process, `warm
    /// NAME N` by a later one.
    Count,
    /// A run for each point `NAME:N=CODE` that standard input has, a line each.
    Points,
    /// Two runs of a fresh process in which the library panics; the environment
    /// (`TEST_COLDPRESS_PANIC`) says where.
    Panic,
    /// One run of a fresh process; the environment (`SIMCUDA_FAIL`) says what fails.
    Cold,
}

impl Sweep {
    /// Its name on the command line.
    pub fn parse(text: &str) -> Option<Sweep> {
        Some(match text {
            "count" => Sweep::Count,
            "points" => Sweep::Points,
            "cold" => Sweep::Cold,
            "panic" => Sweep::Panic,
            _ => return None,
        })
    }
}

/// Exit code of a process in which eviction was turned off: more points would show nothing.
const TURNED_OFF: u8 = 4;

/// Sweeps; `begun` is told of every run, for the watchdog.
pub fn sweep(what: Sweep, options: &Options, begun: impl Fn()) -> ExitCode {
    // The library loads its driver, which is the simulator, at the first call.
    let _ = Driver::load().map(|driver| driver.version());
    let Some(simulator) = Simulator::find() else {
        eprintln!("cuda-fuzz: --sweep needs the simulated driver and SIMCUDA_LIBRARY");
        return ExitCode::from(2);
    };
    let sweeper = Sweeper { simulator, options, begun: &begun };
    let result = match what {
        Sweep::Count => sweeper.count(),
        Sweep::Points => sweeper.points(),
        Sweep::Cold => sweeper.cold(),
        Sweep::Panic => sweeper.panic(),
    };
    result.unwrap_or_else(|e| {
        println!("FAILED: {e}");
        ExitCode::from(1)
    })
}

/// Function and number of a point.
fn parts(point: &str) -> Result<(&str, u64), String> {
    let parts = || {
        let (name, rest) = point.split_once(':')?;
        Some((name, rest.split_once('=')?.0.parse().ok()?))
    };
    parts().ok_or_else(|| format!("{point}: a point is NAME:N=CODE"))
}

struct Sweeper<'a> {
    simulator: Simulator,
    options: &'a Options,
    begun: &'a dyn Fn(),
}

impl Sweeper<'_> {
    fn run(&self) -> Result<Ran, String> {
        (self.begun)();
        run::run(self.options, &self.simulator)
    }

    /// A run in which nothing fails, after which nothing may be left.
    fn clean(&self) -> Result<Ran, String> {
        let ran = self.run().map_err(|e| format!("without any failure: {e}"))?;
        if ran.refused > 0 || !ran.left.is_empty() {
            return Err(format!("without any failure: {ran}"));
        }
        Ok(ran)
    }

    fn count(&self) -> Result<ExitCode, String> {
        for kind in ["cold", "", "warm"] {
            let before = self.simulator.calls();
            self.clean()?;
            for (name, n) in self.simulator.calls() {
                let n = n - before.get(&name).copied().unwrap_or(0);
                if n > 0 && !kind.is_empty() {
                    println!("{kind} {name} {n}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn points(&self) -> Result<ExitCode, String> {
        // The first runs of a process make what later ones find.
        self.clean()?;
        self.clean()?;
        for line in std::io::stdin().lock().lines() {
            let point = line.map_err(|e| e.to_string())?;
            // Before the run: a crash or a hang leaves this line as the last.
            println!("point {point}");
            let (name, n) = parts(&point)?;
            let before = self.simulator.calls_of(name);
            self.simulator.fail(Some(&point))?;
            let ran = self.run();
            self.simulator.fail(None)?;
            let reached = self.simulator.calls_of(name) - before >= n;
            let ran = ran?;
            println!("done reached={} {ran}", u8::from(reached));
            if ran.off {
                return Ok(ExitCode::from(TURNED_OFF));
            }
            self.settle(&ran)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn cold(&self) -> Result<ExitCode, String> {
        let point = std::env::var("SIMCUDA_FAIL").map_err(|e| format!("SIMCUDA_FAIL: {e}"))?;
        let (name, n) = parts(&point)?;
        let ran = self.run()?;
        let reached = self.simulator.calls_of(name) >= n;
        self.simulator.fail(None)?;
        println!("done reached={} {ran}", u8::from(reached));
        if !ran.off {
            self.settle(&ran)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The program that meets the panic, and one after it, which nothing may be left for.
    fn panic(&self) -> Result<ExitCode, String> {
        for _ in 0..2 {
            println!("done reached=1 {}", self.run()?);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What a failing call kept is gone after the next run: somebody remembered it.
    fn settle(&self, ran: &Ran) -> Result<(), String> {
        if !ran.left.is_empty() {
            self.clean().map_err(|e| format!("{e}: what failed in the run before is lost"))?;
        }
        Ok(())
    }
}
