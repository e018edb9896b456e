//! The arguments of every subcommand.

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use coldpress::codec::cpu::Dtype;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Runs CUDA programs in less GPU memory: cold buffers are moved out losslessly and put back
/// before anything can touch them.
#[derive(Debug, Parser)]
#[command(name = "coldpress", version, max_term_width = 100)]
#[command(after_help = "First steps: coldpress doctor; coldpress demo; coldpress run PROG\n\
                        Options of the library: coldpress env")]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program under coldpress
    ///
    /// The program replaces this command (exec), so pid, signals and exit status are its own.
    /// Without a CUDA driver it runs as it would without coldpress.
    Run(Run),
    /// Check whether coldpress can work on this machine
    ///
    /// Looks at the driver, the devices, the library and its preloading, limits of host memory
    /// and the environment. Exits with 1 if something would keep coldpress from working.
    Doctor(Doctor),
    /// List the options of the library with their values here
    Env(Env),
    /// Show what running processes hold, evicted and restored
    Stat(Stat),
    /// Restore everything in a process and evict no more
    Off(Switch),
    /// Let a process evict again after `coldpress off`
    On(Switch),
    /// Show on this machine that a program gives the same result in 40 % of its memory
    ///
    /// Runs an ordinary CUDA program twice, without coldpress and under it with a limit, and
    /// compares. Without a CUDA driver a simulated one is used. Exits with 1 if the results
    /// differ or the limit was passed.
    Demo(Demo),
    /// Say how small files of tensors get, and that every byte comes back
    ///
    /// Codes each file as coldpress codes device memory, in pages of 64 KiB, decodes it again and
    /// compares. Nothing is written. For a dump at hand: would it help me? Exits with 1 if a byte
    /// does not come back.
    Codec(Codec),
    /// Print the manual page
    #[command(hide = true)]
    Man,
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "coldpress run [OPTIONS] [--] PROG [ARGS]...")]
pub struct Run {
    /// Options of the library, as in COLDPRESS_CONF (see `coldpress env`); wins over variables
    #[arg(long, value_name = "KEY:VALUE,..")]
    pub conf: Vec<String>,
    /// GPU memory the program may hold on each card, for example 40GiB or 70%
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<String>,
    /// rescue, active or trace
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        required = true,
        value_name = "PROG",
        allow_hyphen_values = true
    )]
    pub program: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Print the checks as JSON
    #[arg(long)]
    pub json: bool,
    /// What the preload check runs in a process of its own
    #[arg(long, hide = true)]
    pub probe: bool,
}

#[derive(Debug, clap::Args)]
pub struct Env {
    /// Print the options as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the reference page
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

#[derive(Debug, clap::Args)]
pub struct Stat {
    /// The process; all of this user's if left out
    pub pid: Option<u32>,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    /// Print again and again, until the process ends or Ctrl-C; seconds between. With --json one
    /// document a line
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          require_equals = true, value_parser = seconds)]
    pub watch: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub struct Switch {
    /// The process
    pub pid: u32,
    /// How long to wait for its answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub struct Codec {
    /// Files of bare elements: tensors as they are in memory
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What the elements are; auto looks at each page
    #[arg(long, value_name = "TYPE", default_value = "auto",
          value_parser = PossibleValuesParser::new(Dtype::NAMES))]
    pub dtype: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Folder of files to load; COLDPRESS_CORPUS or made-up tensors if left out
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Memory under coldpress: a size or a share of what the program holds without it
    #[arg(long, value_name = "SIZE", default_value = "40%")]
    pub limit: String,
    /// Order of the work
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Size of the program in units of 256 MiB
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub scale: f64,
    /// rescue or active
    #[arg(long, value_name = "MODE", default_value = "rescue")]
    pub mode: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    coldpress::units::parse_duration(text)
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "a time above zero, in seconds".to_owned())
}
