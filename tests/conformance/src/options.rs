//! The command line.

/// What `--help` prints.
pub const HELP: &str = "\
Asks the CUDA driver that the loader finds what it does, and compares with what is expected.

usage: cuda-conformance [--filter TEXT] [--json]
       cuda-conformance --measure NAME
       cuda-conformance --list | --describe | --help

  --filter TEXT  only cases whose name contains TEXT
  --json         one JSON document instead of text
  --measure NAME map-cost, map-overlap, capture, reserve or pointers, as JSON
  --list         names and expectations; no driver is needed
  --describe     card and driver as JSON

Exit: 0 all passed, 1 something failed, 2 wrong usage.";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Print all cases.
    List,
    /// Print card and driver.
    Describe,
    /// One measurement, as JSON.
    Measure(String),
    /// Cases by name, in this process, a line of JSON each: how the suite starts itself.
    Cases(Vec<String>),
    /// Load the driver at a path and ask it without initialising it.
    BeforeInit(String),
    /// The suite.
    Suite {
        /// Part of the names to run.
        filter: Option<String>,
        /// Print JSON.
        json: bool,
    },
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments;
    let (mut filter, mut json) = (None, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--describe" => return Ok(Command::Describe),
            "--measure" => return Ok(Command::Measure(value()?)),
            "--cases" => return Ok(Command::Cases(arguments.collect())),
            "--before-init" => return Ok(Command::BeforeInit(value()?)),
            "--filter" => filter = Some(value()?),
            "--json" => json = true,
            other => return Err(format!("unknown argument {other} (see --help)")),
        }
    }
    Ok(Command::Suite { filter, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn reads_what_the_help_says() {
        assert_eq!(parsed(""), Ok(Command::Suite { filter: None, json: false }));
        let suite = Command::Suite { filter: Some("vmm".to_owned()), json: true };
        assert_eq!(parsed("--filter vmm --json"), Ok(suite));
        assert_eq!(parsed("--list"), Ok(Command::List));
        assert!(parsed("--filter").is_err());
        assert!(parsed("--frobnicate").is_err());
    }
}
