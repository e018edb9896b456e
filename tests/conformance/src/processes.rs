//! Cases in processes of their own: what one ruins, or a driver that crashes, is one failed case.

use crate::case::{Case, Outcome, Stop};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longest time without a word from the process of a case.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of each case. Those that need no process of their own share one until a case fails.
pub fn outcomes(cases: &[Case]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(cases.len());
    while let Some(first) = cases.get(outcomes.len()) {
        let rest = &cases[outcomes.len()..];
        let alike = rest.iter().take_while(|case| !case.isolated && !first.isolated).count();
        outcomes.extend(together(&rest[..alike.max(1)]));
    }
    outcomes
}

/// Outcomes of the first cases, at least one, from one process.
fn together(cases: &[Case]) -> Vec<Outcome> {
    let mut worker = match Worker::start(cases) {
        Ok(worker) => worker,
        Err(e) => return vec![Err(Stop::fail(e.to_string()))],
    };
    let mut outcomes = Vec::new();
    while outcomes.len() < cases.len() {
        match worker.lines.recv_timeout(PATIENCE) {
            // A driver may print as well.
            Ok(line) => outcomes.extend(read(&line)),
            Err(why) => {
                let end = match why {
                    RecvTimeoutError::Timeout => format!("nothing for {PATIENCE:?}"),
                    RecvTimeoutError::Disconnected => worker.ended(),
                };
                if !matches!(outcomes.last(), Some(Err(Stop::Fail(_)))) {
                    outcomes.push(Err(Stop::fail(end)));
                }
                break;
            }
        }
    }
    outcomes
}

/// An outcome out of the line that tells it.
fn read(line: &str) -> Option<Outcome> {
    let said: Value = serde_json::from_str(line).ok()?;
    let message = said["message"].as_str().unwrap_or_default().to_owned();
    match said["result"].as_str()? {
        "passed" => Some(Ok(())),
        "skipped" => Some(Err(Stop::Skip(message))),
        "failed" => Some(Err(Stop::Fail(message))),
        _ => None,
    }
}

/// A process that runs cases; it is ended with this.
struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    fn start(cases: &[Case]) -> std::io::Result<Worker> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--cases")
            .args(cases.iter().map(|case| case.name))
            .stdout(Stdio::piped())
            .spawn()?;
        let (tell, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                lines.map(|line| tell.send(line)).find(Result::is_err)
            });
        }
        Ok(Worker { child, lines })
    }

    /// How the process ended; its last words went to standard error like ours.
    fn ended(&mut self) -> String {
        let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        format!("its process ended: {status}")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_prints_is_no_outcome() {
        assert_eq!(read("{\"result\":\"passed\"}"), Some(Ok(())));
        let failed = Some(Err(Stop::Fail("so".to_owned())));
        assert_eq!(read("{\"result\":\"failed\",\"message\":\"so\"}"), failed);
        assert_eq!(read("a warning"), None);
        assert_eq!(read("{}"), None);
    }
}
