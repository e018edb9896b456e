//! The command line: one file a subcommand.
//!
//! Owns: arguments, exit codes (0 done, 1 failed, 2 used wrongly or not startable) and what is
//! printed. Never: the engine; these commands read options and statistics pages only. What was
//! asked for (a listing, JSON) goes to stdout, everything else to stderr.

mod args;
mod codec;
mod demo;
mod doctor;
mod elf;
mod env;
mod locate;
mod preload;
mod real;
mod run;
mod stat;
mod switch;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command failed, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// The work failed.
    fn failed(text: impl Display) -> Failure {
        Failure { code: 1, text: text.to_string() }
    }

    /// The command was used wrongly or something it needs is not there.
    fn usage(text: impl Display) -> Failure {
        Failure { code: 2, text: text.to_string() }
    }
}

type Result<T = ExitCode> = std::result::Result<T, Failure>;

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let command = Args::parse().command;
    if !matches!(&command, Command::Doctor(args) if args.probe) {
        preload::leave();
    }
    let result = match command {
        Command::Run(args) => run::run(args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Env(args) => env::env(&args),
        Command::Stat(args) => stat::stat(&args),
        Command::Off(args) => switch::switch(&args, coldpress::stats::Command::Off),
        Command::On(args) => switch::switch(&args, coldpress::stats::Command::On),
        Command::Demo(args) => demo::demo(&args),
        Command::Codec(args) => codec::codec(&args),
        Command::Man => man(),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "coldpress", &mut out);
            print(&String::from_utf8_lossy(&out))
        }
    };
    result.unwrap_or_else(|failure| {
        say(&failure.text);
        ExitCode::from(failure.code)
    })
}

/// One line on stderr.
fn say(text: &str) {
    coldpress::say::line(text);
}

/// What was asked for, on stdout. A reader that went away is no failure.
fn print(text: &str) -> Result {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A document as JSON, on stdout.
fn print_json(document: &impl serde::Serialize) -> Result {
    let text = serde_json::to_string_pretty(document).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// The manual page.
fn man() -> Result {
    let mut out = Vec::new();
    let command = Args::command();
    let page = clap_mangen::Man::new(command.clone());
    let render = |out: &mut Vec<u8>| -> io::Result<()> {
        page.render_title(out)?;
        page.render_name_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_description_section(out)?;
        writeln!(out, ".SH COMMANDS")?;
        for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
            // Built, so that the usage line carries the name of the command.
            let mut sub = sub.clone().bin_name(format!("coldpress {}", sub.get_name()));
            sub.build();
            let about = sub.get_long_about().or(sub.get_about()).map(|a| a.to_string());
            let usage = sub.render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ");
            writeln!(out, ".SS \"{}\"", roff(usage))?;
            writeln!(out, "{}", roff(&about.unwrap_or_default()))?;
            for arg in sub.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help") {
                let help = arg.get_long_help().or(arg.get_help()).map(|h| h.to_string());
                writeln!(out, ".TP\n\\fB{}\\fR", roff(&arg.to_string()))?;
                writeln!(out, "{}", roff(&help.unwrap_or_default()))?;
            }
        }
        out.extend_from_slice(coldpress::config::man().as_bytes());
        writeln!(out, ".SH EXIT STATUS")?;
        writeln!(
            out,
            "0 done, 1 failed, 2 used wrongly or not startable. \\fBcoldpress run\\fR becomes the \
             program, so pid, signals and exit status are the program's."
        )
    };
    render(&mut out).map_err(Failure::failed)?;
    print(&String::from_utf8_lossy(&out))
}

/// Text as roff reads it.
fn roff(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('-', "\\-")
        .replace("\n\n", "\n.PP\n")
        .replace("\n'", "\n\\&'")
}
