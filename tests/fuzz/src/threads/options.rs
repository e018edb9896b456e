//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
usage: cuda-threads [--threads N] [--milliseconds N] [--seed N] [--timeout SECONDS]
                    [--switch COMMAND]

  --threads N         workers (default 8)
  --milliseconds N    how long they work (default 2000)
  --seed N            of their random choices (default 1); the order of threads is the machine's
  --timeout SECONDS   no step of any thread for so long is a hang; ends with 3 (default 60)
  --switch COMMAND    the coldpress command, to turn it off and on meanwhile

Under coldpress on the simulated driver, SIMCUDA_LIBRARY names the simulator's file. Prints counts,
and one line FAILED for each thread that met a wrong word or an error; exit code 1 then.
";

/// What it says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers.
    pub threads: usize,
    /// How long they work.
    pub time: Duration,
    /// Of the random choices.
    pub seed: u64,
    /// Of a hang.
    pub timeout: Duration,
    /// The coldpress command.
    pub switch: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; `None` asks for help.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            threads: 8,
            time: Duration::from_millis(2000),
            seed: 1,
            timeout: Duration::from_secs(60),
            switch: None,
        };
        while let Some(arg) = args.next() {
            if arg == "--help" {
                return Ok(None);
            }
            let value = args.next().ok_or_else(|| format!("{arg}: a value is missing"))?;
            let number =
                || value.parse::<u64>().map_err(|_| format!("{arg} {value}: not a number"));
            match arg.as_str() {
                "--threads" => options.threads = number()? as usize,
                "--milliseconds" => options.time = Duration::from_millis(number()?),
                "--seed" => options.seed = number()?,
                "--timeout" => options.timeout = Duration::from_secs(number()?),
                "--switch" => options.switch = Some(value.into()),
                _ => return Err(format!("{arg}: unknown (--help)")),
            }
        }
        Ok(Some(options))
    }
}
