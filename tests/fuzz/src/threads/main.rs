//! Threads that use one context at once, each against a model of what its buffers hold.
//!
//! Every worker owns streams and buffers and allocates, frees, launches, copies, fills, makes and
//! destroys streams without end; some buffers are everybody's, ordered by events. One more thread
//! evicts, restores and, given the command, turns coldpress off and on. Half of the workers use
//! the legacy default stream, half per-thread default streams. What a word must be is known at
//! every moment, so a lost write, a stale byte or a use of memory that has gone shows at the next
//! check, at the latest at the end.

mod control;
mod options;
mod shared;
mod worker;

#[allow(dead_code, reason = "the other program of this package uses the rest")]
#[path = "../coldpress.rs"]
mod coldpress;
#[allow(dead_code, reason = "the other program of this package uses the rest")]
#[path = "../kernels.rs"]
mod kernels;
#[allow(dead_code, reason = "the other program of this package uses the rest")]
#[path = "../reference.rs"]
mod reference;
#[allow(dead_code, reason = "the other program of this package uses the rest")]
#[path = "../rng.rs"]
mod rng;

use coldpress::Extras;
use cuda_client::{Code, Driver, Lookup};
use kernels::Kernels;
use options::{HELP, Options};
use shared::Shared;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use worker::{Counts, Worker};

/// What went wrong, for a person to read.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<Code> for Failure {
    #[track_caller]
    fn from(code: Code) -> Failure {
        Failure(format!("{code:?} at {}", std::panic::Location::caller()))
    }
}

/// What all threads see.
#[derive(Debug)]
pub struct World {
    /// The legacy default stream's driver, for everything without a stream.
    pub driver: Driver,
    /// The same with per-thread default streams.
    pub per_thread: Driver,
    /// The context of all.
    pub context: cuda_client::Context,
    /// The kernels.
    pub kernels: Kernels,
    /// coldpress and the simulator.
    pub extras: Extras,
    /// Buffers that belong to everybody.
    pub shared: Shared,
    /// Steps taken by all: the watchdog sees it stand still.
    pub steps: AtomicU64,
    /// Set when somebody failed or time is over.
    pub stop: AtomicBool,
}

/// Exit code of a program whose threads hang.
const HANGS: i32 = 3;

/// Ends the program when no thread has made a step for `timeout`: nobody else can.
fn watch(world: &World, timeout: Duration, ended: &AtomicBool) {
    let mut last = u64::MAX;
    let mut since = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        let steps = world.steps.load(Ordering::Relaxed);
        if steps != last {
            last = steps;
            since = Instant::now();
        } else if since.elapsed() > timeout {
            println!("FAILED: no thread has made a step for {timeout:?}");
            let _ = std::io::stdout().flush();
            // SAFETY: ends the process at once; nothing is to be saved.
            unsafe { libc::_exit(HANGS) };
        }
    }
}

fn prepare() -> Result<World, String> {
    let open = |lookup| Driver::open("libcuda.so.1", lookup).map_err(|e| e.to_string());
    let driver = open(Lookup::Symbols)?;
    let per_thread = open(Lookup::PerThreadSymbols)?;
    let said = |e: Code| format!("cannot start: {e:?}");
    let (_, context) = driver.start(0).map_err(said)?;
    let kernels = Kernels::load(&driver).map_err(said)?;
    let shared = Shared::new(&driver).map_err(said)?;
    let extras = Extras::find(&driver);
    let (steps, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    Ok(World { driver, per_thread, context, kernels, extras, shared, steps, stop })
}

/// Runs all threads to their end; the sum of what they did and who failed.
fn run(world: &World, options: &Options) -> (Counts, Vec<String>) {
    let mut total = Counts::default();
    let mut failures = Vec::new();
    let ended = AtomicBool::new(false);
    let deadline = Instant::now() + options.time;
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(world, options.timeout, &ended));
        let control = scope.spawn(|| control::run(world, options));
        let workers: Vec<_> = (0..options.threads)
            .map(|n| {
                scope.spawn(move || {
                    let done = Worker::new(world, n, options.seed)
                        .and_then(|mut worker| worker.run(deadline));
                    // The others need not go on when one has failed.
                    done.inspect_err(|_| world.stop.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        for (n, worker) in workers.into_iter().enumerate() {
            match worker.join() {
                Ok(Ok(counts)) => total.add(&counts),
                Ok(Err(Failure(why))) => failures.push(format!("thread {n}: {why}")),
                Err(_) => failures.push(format!("thread {n} panicked")),
            }
        }
        world.stop.store(true, Ordering::Relaxed);
        match control.join() {
            Ok(counts) => total.add(&counts),
            Err(_) => failures.push("the controlling thread panicked".to_owned()),
        }
        ended.store(true, Ordering::Relaxed);
        // The scope would wait too, but in a way that ThreadSanitizer does not see.
        if watcher.join().is_err() {
            failures.push("the watchdog panicked".to_owned());
        }
    });
    (total, failures)
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("cuda-threads: {e}");
            return ExitCode::from(2);
        }
    };
    let world = match prepare() {
        Ok(world) => world,
        Err(e) => {
            eprintln!("cuda-threads: {e}");
            return ExitCode::from(2);
        }
    };
    let (mut counts, mut failures) = run(&world, &options);
    if failures.is_empty()
        && let Err(Failure(why)) = world.shared.end(&world).and_then(|()| Ok(end(&world)?))
    {
        failures.push(why);
    }
    if let Some(stats) = world.extras.stats() {
        counts.evictions = stats.evictions;
        counts.restores = stats.restores;
        if stats.verify_failures > 0 {
            failures.push(format!("verify_failures={}", stats.verify_failures));
        }
        if failures.is_empty() && stats.logical_bytes > 0 {
            failures.push(format!("{} bytes are not freed", stats.logical_bytes));
        }
    }
    if world.extras.faults() > 0 {
        failures.push(format!("device work faulted {} times", world.extras.faults()));
    }
    println!("all: {counts}");
    failures.iter().for_each(|why| println!("FAILED: {why}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn end(world: &World) -> Result<(), Code> {
    world.driver.ctx_synchronize()?;
    world.kernels.unload(&world.driver)
}
