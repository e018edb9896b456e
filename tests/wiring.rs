//! No option that does nothing, no number that nobody counts: every one of them is used
//! somewhere in the library outside the module that defines it.

use coldpress::config::table::OPTIONS;
use coldpress::stats::COUNTERS;
use std::fs;
use std::path::Path;

/// All source of the library but `except`.
fn source(folder: &Path, except: &[&str], out: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if except.contains(&name) {
            continue;
        }
        if path.is_dir() {
            source(&path, except, out);
        } else if name.ends_with(".rs") {
            out.push_str(&fs::read_to_string(&path).expect("source"));
        }
    }
}

fn library(except: &[&str]) -> String {
    let mut out = String::new();
    source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), except, &mut out);
    out
}

#[test]
fn every_option_does_something() {
    let source = library(&["config", "cli", "say"]);
    for option in OPTIONS {
        let key = option.key;
        // Sizes are read through a function that knows what they are a share of.
        let uses = [format!(".{key}"), format!(".{key}_for("), format!(".{key}_bytes(")];
        assert!(uses.iter().any(|u| source.contains(u)), "nothing reads the option {key}");
    }
}

#[test]
fn every_counter_counts() {
    let source = library(&["stats", "cli", "say"]);
    for (name, _) in COUNTERS {
        // Pages are counted by number of their mode.
        let name = if name.starts_with("pages_") { "coded_pages.get" } else { name };
        let uses =
            [format!("{name}.add("), format!("{name}.set("), format!("{name}(descriptor.mode())")];
        assert!(uses.iter().any(|u| source.contains(u)), "nothing counts {name}");
    }
}
