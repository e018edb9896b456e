//! Fewer steps, and smaller numbers in them, that still fail.
//!
//! Each attempt is a process of its own: a failed sequence may have left the driver in any
//! state, hang or crash.

use crate::options::Options;
use crate::script::{self, Script, Step};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Looks for a shorter program for as long as `--shrink` says, keeps it where `--save` says, and
/// prints what it is.
pub fn shrink(options: &Options, seed: u64, done: &[Step], why: &str) {
    let Ok(program) = std::env::current_exe() else { return };
    let folder = options.save.clone().unwrap_or_else(std::env::temp_dir);
    let _ = std::fs::create_dir_all(&folder);
    let keep = folder.join(format!("seed-{seed}.txt"));
    let mut attempt = Attempt {
        program,
        at: folder.join(format!("attempt-{}.txt", std::process::id())),
        script: Script {
            remarks: vec![format!("seed {seed}: {why}")],
            settings: script::environment(),
            options: options.shape(),
            steps: done.to_vec(),
        },
    };
    let deadline = options.shrink.map(|time| Instant::now() + time);
    if let Some(deadline) = deadline {
        let all = done.len().saturating_sub(1);
        if attempt.fails(done) {
            attempt.leave_out(deadline);
            attempt.make_small(deadline);
            let left = attempt.script.steps.len().saturating_sub(1);
            println!("  {left} of {all} steps fail too:");
        } else {
            println!(
                "  it does not fail again by itself: a race, or something an earlier seed left"
            );
        }
        for step in &attempt.script.steps {
            println!("    {} {:?}", step.name, step.numbers);
        }
    }
    let _ = std::fs::remove_file(&attempt.at);
    if options.save.is_some() {
        match attempt.script.save(&keep) {
            Ok(()) => println!("  written to {}", keep.display()),
            Err(e) => println!("  {}: {e}", keep.display()),
        }
    }
}

struct Attempt {
    program: PathBuf,
    /// The file for attempts.
    at: PathBuf,
    /// The shortest that failed.
    script: Script,
}

impl Attempt {
    fn fails(&self, steps: &[Step]) -> bool {
        let script = Script { steps: steps.to_vec(), ..self.script.clone() };
        script.save(&self.at).is_ok() && run(&self.program, &self.at)
    }

    /// Leaves out ever smaller parts; the first step is the program's start.
    fn leave_out(&mut self, deadline: Instant) {
        let mut part = self.script.steps.len() / 2;
        while part > 0 && Instant::now() < deadline {
            let mut at = 1;
            let mut any = false;
            while at < self.script.steps.len() && Instant::now() < deadline {
                let mut fewer = self.script.steps.clone();
                fewer.drain(at..(at + part).min(fewer.len()));
                if self.fails(&fewer) {
                    self.script.steps = fewer;
                    any = true;
                } else {
                    at += part;
                }
            }
            if !any {
                part /= 2;
            }
        }
    }

    /// Tries 0 in place of every number.
    fn make_small(&mut self, deadline: Instant) {
        for step in 0..self.script.steps.len() {
            for number in 0..self.script.steps[step].numbers.len() {
                if Instant::now() >= deadline {
                    return;
                }
                let mut smaller = self.script.steps.clone();
                if std::mem::take(&mut smaller[step].numbers[number]) != 0 && self.fails(&smaller) {
                    self.script.steps = smaller;
                }
            }
        }
    }
}

/// Whether the program in a file fails.
fn run(program: &Path, file: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--replay").arg(file).args(["--timeout", "10"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| !status.success())
}
