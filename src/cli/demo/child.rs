//! One run of the demo program: it stops after each phase until we have looked at its page.

use super::Moved;
use crate::cli::{Failure, Result, say};
use coldpress::stats;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The longest a phase may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running program.
pub struct Child {
    process: process::Child,
    input: ChildStdin,
    lines: Receiver<String>,
    started: Instant,
    driver_report: PathBuf,
}

/// What a run said and did.
pub struct Finished {
    pub digest: String,
    /// As the program counts it.
    footprint: Option<u64>,
    /// Highest physical memory, as the simulated driver counts it.
    pub driver_peak: Option<u64>,
    /// Highest physical memory, as coldpress counts it.
    pub own_peak: Option<u64>,
    pub time_ns: u64,
    pub phases: Vec<Seen>,
}

/// A phase, and what the page said at its end if there was one.
pub struct Seen {
    pub name: String,
    pub moved: Option<Moved>,
}

impl Child {
    pub fn start(command: &mut Command, folder: &Path) -> Result<Child> {
        // The simulator writes its own count of what the program held.
        command.env("SIMCUDA_REPORT", folder.join("report-%p.json"));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::failed(format!("cannot start the demo program: {e}")))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Failure::failed("the demo program has no pipes"));
        };
        let (sender, lines) = channel();
        // A thread of its own, so that waiting for a line can end. It ends with the program.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let driver_report = folder.join(format!("report-{}.json", process.id()));
        Ok(Child { process, input, lines, started: Instant::now(), driver_report })
    }

    /// Follows the program to its end.
    pub fn finish(mut self) -> Result<Finished> {
        let result = self.follow();
        if result.is_err() {
            // It may have ended already; either way it is gone after the wait.
            let _ = self.process.kill();
        }
        let status = self.process.wait().map_err(Failure::failed)?;
        let (mut finished, document) = result?;
        if !status.success() {
            return Err(Failure::failed(format!("the demo program failed: {status}")));
        }
        let Some(document) = document else {
            return Err(Failure::failed("the demo program ended without a result"));
        };
        finished.digest = match document.get("digest") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => return Err(Failure::failed("the demo program printed no digest")),
        };
        let number = |name: &str| document.get(name).and_then(Value::as_u64);
        finished.footprint = number("footprint_bytes");
        finished.driver_peak = number("simulator_peak_bytes").max(self.reported_peak());
        Ok(finished)
    }

    fn follow(&mut self) -> Result<(Finished, Option<Value>)> {
        let mut finished = Finished {
            digest: String::new(),
            footprint: None,
            driver_peak: None,
            own_peak: None,
            time_ns: 0,
            phases: Vec::new(),
        };
        let mut last = None;
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = PATIENCE.as_secs();
                    let text = format!("the demo program said nothing for {seconds} s");
                    return Err(Failure::failed(text));
                }
            };
            let Ok(document) = serde_json::from_str::<Value>(&line) else {
                say(&format!("  {line}"));
                continue;
            };
            match document.get("phase").and_then(Value::as_str) {
                Some(phase) => {
                    self.look(phase, &mut finished);
                    // After its last phase it may not wait for us any more.
                    let _ = self.input.write_all(b"\n").and_then(|()| self.input.flush());
                }
                None => last = Some(document),
            }
        }
        finished.time_ns = self.started.elapsed().as_nanos() as u64;
        Ok((finished, last))
    }

    fn look(&self, phase: &str, finished: &mut Finished) {
        say(&format!("  {phase} done"));
        let page = stats::find(self.process.id()).ok().flatten();
        if let Some(page) = &page {
            finished.own_peak = Some(page.used_devices().iter().map(|d| d.peak.get()).sum());
        }
        let moved = page.as_deref().map(Moved::on);
        finished.phases.push(Seen { name: phase.to_owned(), moved });
    }

    fn reported_peak(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.driver_report).ok()?;
        let report: Value = serde_json::from_str(&text).ok()?;
        let devices = report.get("devices")?.as_array()?;
        devices.iter().map(|d| d.get("peak_bytes")?.as_u64()).sum()
    }
}

impl Finished {
    /// What the program holds when nobody limits it.
    pub fn footprint(&self) -> Result<u64> {
        self.footprint
            .or(self.driver_peak)
            .filter(|&bytes| bytes > 0)
            .ok_or_else(|| Failure::failed("the demo program printed no footprint"))
    }
}
