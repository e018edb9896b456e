//! The demo workload: an ordinary CUDA driver-API program with more memory than it touches at a
//! time. It knows nothing of coldpress; run with or without it, it must print the same digest.

mod buffers;
mod corpus;
mod digest;
mod error;
mod host;
mod job;
mod kernels;
mod lanes;
mod ops;
mod options;
mod random;
mod report;
mod simulator;
mod staging;
mod workload;

use digest::Digest;
use error::{During, Result};
use job::Job;
use kernels::Image;
use options::{Command, Options};
use report::{PhaseReport, RunReport, say};
use simulator::Simulator;
use std::process::ExitCode;
use std::time::Instant;
use workload::{Workload, largest};

fn main() -> ExitCode {
    let done = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => say(options::HELP.trim_end()).during("standard output"),
        Ok(Command::Run(options)) => run(&options),
        Err(e) => Err(e),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("coldpress-demo-program: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let piece = largest(options.footprint);
    let corpus = match &options.data {
        Some(folder) => corpus::read(folder, options.max_bytes, piece)?,
        None => {
            eprintln!(
                "coldpress-demo-program: no --data, no COLDPRESS_CORPUS: tensors are generated"
            );
            corpus::generate(options.seed, options.max_bytes.min(options.footprint / 4), piece)
        }
    };
    let (data, data_bytes) = (corpus.origin.clone(), corpus.bytes());
    let mut job = Job::start(options.seed, piece)?;
    let simulator = Simulator::find(&job.driver);
    let mut workload = Workload::new(options.footprint, corpus);
    let mut digest = Digest::EMPTY;
    let mut highest: Option<u64> = None;
    for &phase in &options.phases {
        let started = Instant::now();
        let value = workload.run(&mut job, phase).during(phase.name())?.value();
        digest.word(value);
        let peak = simulator.map(|s| s.take_peak());
        highest = highest.max(peak);
        let report = PhaseReport {
            phase: phase.name(),
            digest: value,
            bytes_live: job.buffers.live,
            elapsed: started.elapsed(),
            peak,
        };
        say(&report.line(options.json)).during("standard output")?;
        if options.step {
            std::io::stdin().read_line(&mut String::new()).during("standard input")?;
        }
    }
    let report = RunReport {
        digest: digest.value(),
        footprint: job.buffers.peak,
        bytes_read: workload.bytes_read,
        launches: job.counts.launches,
        copies: job.counts.copies,
        allocations: job.counts.allocations,
        data,
        data_bytes,
        image: match job.kernels.image {
            Image::Ptx => "ptx",
            Image::Cpu => "cpu",
        },
        card: job.card.clone(),
        seed: options.seed,
        peak: highest,
    };
    job.finish()?;
    say(&report.line(options.json)).during("standard output")
}
