//! `coldpress off` and `on`: a request on the process's statistics page, and its answer.

use super::{Failure, Result, args, say};
use coldpress::stats::{self, Command, View};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub fn switch(args: &args::Switch, command: Command) -> Result {
    let view = open(args.pid)?;
    if let Some(why) = view.passthrough.get() {
        let text = format!("process {} manages nothing: {why}", args.pid);
        return match command {
            Command::Off => {
                say(&text);
                Ok(ExitCode::SUCCESS)
            }
            Command::On => Err(Failure::failed(text)),
        };
    }
    let number = view.ask(command);
    let deadline = Instant::now() + args.timeout;
    loop {
        match view.answered(number) {
            Some(true) => break,
            Some(false) => {
                return Err(Failure::failed(match command {
                    Command::Off => format!(
                        "process {} evicts no more, but has no memory to restore everything now",
                        args.pid
                    ),
                    Command::On => format!("process {} cannot evict: see coldpress stat", args.pid),
                }));
            }
            None if !view.alive() => {
                return Err(Failure::failed(format!("process {} ended", args.pid)));
            }
            None if Instant::now() >= deadline => {
                return Err(Failure::failed(format!(
                    "no answer from process {} in {} s; it serves the request once it can",
                    args.pid,
                    args.timeout.as_secs_f32()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    say(&match (command, view.eviction_off.get()) {
        (Command::Off, _) => format!("process {}: everything restored, eviction off", args.pid),
        (Command::On, None) => format!("process {}: eviction on", args.pid),
        (Command::On, Some(why)) => {
            return Err(Failure::failed(format!(
                "process {}: eviction stays off: {why}",
                args.pid
            )));
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// The page of a running process.
pub fn open(pid: u32) -> Result<View> {
    match stats::find(pid) {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err(Failure::failed(format!(
            "process {pid} does not run under coldpress, or has not initialised CUDA yet"
        ))),
        Err(e) => Err(Failure::failed(format!("cannot read the statistics of {pid}: {e}"))),
    }
}
