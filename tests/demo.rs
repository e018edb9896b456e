//! The main job: `coldpress demo` on the simulated driver.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The command, on the simulated driver.
fn coldpress(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coldpress"));
    for (name, _) in std::env::vars() {
        if name.starts_with("COLDPRESS_") || name.starts_with("SIMCUDA_") {
            command.env_remove(name);
        }
    }
    command.env_remove("LD_PRELOAD").env("COLDPRESS_REAL_LIBCUDA", beside("libsimcuda.so"));
    command.args(args);
    command
}

/// A file that the build puts beside the command.
fn beside(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_coldpress")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run cargo build first", path.display());
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the demo; its document. Shows everything when it fails.
fn demo(args: &[&str], variables: &[(&str, &str)]) -> Value {
    beside("coldpress-demo-program");
    let args: Vec<&str> = ["demo", "--json"].iter().chain(args).copied().collect();
    let out = coldpress(&args).envs(variables.iter().copied()).output().expect("starts");
    let (document, said) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{}\n{document}\n{said}", out.status);
    serde_json::from_str(&document).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What must hold for every demo.
fn assert_sound(document: &Value) {
    assert_eq!(document["schema"], "coldpress.demo");
    assert_eq!(document["simulated"], true);
    assert_eq!(document["digests_equal"], true);
    assert_eq!(document["digest_without"], document["digest_under"]);
    assert_eq!(document["peak_counted_by"], "the simulated driver", "not by us");
    let (peak, limit) = (number(&document["peak_bytes"]), number(&document["limit_bytes"]));
    assert!(peak <= limit, "{peak} of {limit}");
    assert!(number(&document["total"]["verified_bytes"]) > 0);
    for phase in phases(document) {
        // What was loaded alone fits where the limit is wide.
        if phase["name"] != "load" || limit <= number(&document["footprint_bytes"]) / 2 {
            assert!(number(&phase["evicted_bytes"]) > 0, "nothing evicted: {phase}");
            assert!(number(&phase["restored_bytes"]) > 0, "nothing restored: {phase}");
        }
    }
}

fn phases(document: &Value) -> &[Value] {
    let phases = document["phases"].as_array().expect("phases");
    assert!(phases.len() >= 4, "{phases:?}");
    phases
}

#[test]
fn equal_results_in_40_percent_of_the_memory() {
    let document = demo(&["--scale", "0.25"], &[("SIMCUDA_GRANULARITY", "64KiB")]);
    assert_sound(&document);
    assert!(number(&document["limit_bytes"]) <= number(&document["footprint_bytes"]) * 2 / 5);
}

/// Nothing leaves the device: what does not fit is coded and stays there.
#[test]
fn equal_results_without_host_memory() {
    for codec in ["auto", "cpu"] {
        let variables = [("COLDPRESS_HOST_LIMIT", "0"), ("COLDPRESS_CODEC", codec)];
        assert_sound(&demo(&["--scale", "0.25", "--limit", "85%"], &variables));
    }
}

#[test]
fn on_the_files_of_a_folder() {
    let folder = std::env::temp_dir().join(format!("coldpress-data-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("folder");
    for i in 0..6u8 {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|n| (n >> (i % 3)) as u8 ^ i).collect();
        fs::write(folder.join(format!("tensor-{i}.bin")), bytes).expect("written");
    }
    let data = folder.to_str().expect("a plain path");
    let variables = [("SIMCUDA_GRANULARITY", "64KiB")];
    let document = demo(&["--scale", "0.25", "--seed", "7", "--data", data], &variables);
    fs::remove_dir_all(&folder).expect("removed");
    assert_sound(&document);
    assert_eq!(document["data"], data);
}

#[test]
fn the_table_ends_with_the_verdict() {
    let mut command = coldpress(&["demo", "--scale", "0.1"]);
    let out = command.env("SIMCUDA_GRANULARITY", "64KiB").output().expect("starts");
    assert!(out.status.success(), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    assert!(table.ends_with("The results are equal and the limit was kept.\n"), "{table}");
    let said = text(&out.stderr);
    assert!(said.contains("coldpress 0.1: rescue, "), "{said}");
    assert!(said.contains("coldpress: out of memory avoided: "), "{said}");
    assert!(said.contains("tune: coldpress env"), "{said}");
}
