//! The short and the long form of a suite, and what a run leaves to be read.
//!
//! TEST_COLDPRESS_FULL=1         the long form (`scripts/ci-full`); without it the one of `.ci/run`
//! TEST_COLDPRESS_RESULTS=FOLDER each suite writes FOLDER/SUITE.json: counts, seeds, seconds
#![allow(dead_code, reason = "each test program uses its part")]

use serde_json::{Value, json};
use std::time::Instant;
use std::{env, fs, path::PathBuf};

/// True in the long form.
pub fn full() -> bool {
    env::var_os("TEST_COLDPRESS_FULL").is_some_and(|v| v == "1")
}

/// The size of something in this form.
pub fn pick<T>(short: T, long: T) -> T {
    if full() { long } else { short }
}

/// A suite that is running.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    began: Instant,
}

impl Suite {
    /// Begins one; `name` is the name of its result.
    pub fn begin(name: &'static str) -> Suite {
        Suite { name, began: Instant::now() }
    }

    /// Says what was run (an object of counts and seeds) and leaves it where the long run looks.
    pub fn end(self, counts: Value) {
        let Suite { name, began } = self;
        let form = if full() { "full" } else { "short" };
        println!("{name} ({form}): {counts}");
        let Some(folder) = env::var_os("TEST_COLDPRESS_RESULTS").map(PathBuf::from) else { return };
        let seconds = began.elapsed().as_secs();
        let document = json!({ "suite": name, "form": form, "seconds": seconds, "counts": counts });
        fs::create_dir_all(&folder).expect("the folder for results");
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, format!("{document:#}\n")).expect("the result is written");
    }
}
