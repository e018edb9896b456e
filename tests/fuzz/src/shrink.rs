//! Fewer steps that still fail.
//!
//! Every step draws its numbers from the seed and its own position, so leaving some out leaves the
//! others much as they were. Each attempt is a process of its own: a failed sequence may have
//! left the driver in any state, hang or crash.

use crate::options::{Options, show_steps};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Looks for `time`, then prints the shortest program found and the command that runs it.
pub fn shrink(options: &Options, seed: u64, time: Duration) {
    let Ok(program) = std::env::current_exe() else { return };
    let deadline = Instant::now() + time;
    let run = |steps: &[usize]| {
        let mut command = Command::new(&program);
        command.args(["--seed", &seed.to_string(), "--sequences", "1", "--timeout", "10"]);
        command.args(["--only", &show_steps(steps), "--budget", &options.budget.to_string()]);
        if let Some(limit) = options.limit {
            command.args(["--limit", &limit.to_string()]);
        }
        command
    };
    let fails = |steps: &[usize]| {
        let mut command = run(steps);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| !status.success())
    };
    if !fails(&options.steps) {
        println!("  it does not fail again by itself: a race, or something an earlier seed left");
        return;
    }
    let mut steps = options.steps.clone();
    let mut part = steps.len() / 2;
    while part > 0 && Instant::now() < deadline {
        let mut at = 0;
        let mut any = false;
        while at < steps.len() && Instant::now() < deadline {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            if !fewer.is_empty() && fails(&fewer) {
                steps = fewer;
                any = true;
            } else {
                at += part;
            }
        }
        if !any {
            part /= 2;
        }
    }
    let mut shown = run(&steps);
    shown.arg("--verbose");
    println!("  {} of {} steps fail too:", steps.len(), options.steps.len());
    let args: Vec<_> = shown.get_args().map(|a| a.to_string_lossy()).collect();
    println!("  cuda-fuzz {}", args.join(" "));
}
