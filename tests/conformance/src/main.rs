//! One suite of expectations about a CUDA driver, and measurements of it, through the driver API.
//!
//! Runs on whatever `libcuda.so.1` the loader finds: NVIDIA's or the simulator. What has never
//! been seen on a card is counted, so that nobody takes our model of the driver for the driver.

mod case;
mod cases;
mod context;
mod measure;
mod options;
mod processes;
mod run;

use options::{Command, HELP};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("cuda-conformance: {message}");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => say(HELP),
        Command::List => say(&run::list()),
        Command::BeforeInit(path) => run::before_init(&path).and_then(|text| say(&text)),
        Command::Describe => run::describe().and_then(|text| say(&text)),
        Command::Measure(name) => run::measure(&name).and_then(|text| say(&text)),
        Command::Cases(names) => run::some(&names, say),
        Command::Suite { filter, json } => match run::suite(filter.as_deref(), json) {
            Ok((text, true)) => say(&text),
            Ok((text, false)) => {
                return say(&text).map_or(ExitCode::from(2), |()| ExitCode::FAILURE);
            }
            Err(e) => Err(e),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cuda-conformance: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away is no failure of the suite.
fn say(text: &str) -> Result<(), String> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.to_string()),
        _ => Ok(()),
    }
}
