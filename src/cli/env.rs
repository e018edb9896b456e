//! `coldpress env`: every option, its value here and where that came from.

use super::{Failure, Result, args, print, print_json, say};
use coldpress::config::{self, table};
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: u32,
    options: Vec<Entry<'a>>,
    variables: Vec<Variable>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    key: &'static str,
    value: &'a str,
    source: &'static str,
    variable: &'static str,
    default: &'static str,
    values: &'static str,
    doc: &'static str,
}

#[derive(Serialize)]
struct Variable {
    name: &'static str,
    value: Option<String>,
    doc: &'static str,
}

pub fn env(args: &args::Env) -> Result {
    if args.markdown {
        return print(&config::markdown());
    }
    let loaded = config::loaded();
    let variables = table::VARIABLES.iter().map(|v| Variable {
        name: v.name,
        value: std::env::var(v.name).ok(),
        doc: v.doc,
    });
    if args.json {
        let options = loaded.settings.iter().map(|s| Entry {
            key: s.option.key,
            value: &s.value,
            source: s.source(),
            variable: s.option.env,
            default: s.option.default,
            values: s.option.values,
            doc: s.option.doc,
        });
        print_json(&Document {
            schema: "coldpress.env",
            version: 1,
            options: options.collect(),
            variables: variables.collect(),
            warnings: &loaded.warnings,
        })?;
    } else {
        let mut out = String::new();
        for s in &loaded.settings {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{:<13} {:<10} {:<22} {}",
                s.option.key,
                s.value,
                s.source(),
                s.option.doc
            );
        }
        for v in variables {
            if let Some(value) = v.value {
                let _ = writeln!(out, "{}={value}", v.name);
            }
        }
        print(&out)?;
    }
    loaded.warnings.iter().for_each(|w| say(w));
    match &loaded.config.disabled {
        Some(why) if !loaded.warnings.is_empty() => {
            Err(Failure::usage(format!("the library would be off: {why}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
