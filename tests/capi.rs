//! `coldpress.h` as C11 and C++17 programs use it: with the library, without it, and without a
//! driver.

#[path = "capi/harness.rs"]
mod harness;

use harness::{bare, built, coldpress, compile, driver, fresh, run};
use serde_json::Value;
use std::path::{Path, PathBuf};

const LIMIT: &str = "limit:32MiB,host_limit:256MiB";

fn interface() -> PathBuf {
    compile("interface", &["interface.c"])
}

/// What the program above leaves behind: its first allocation away, its last one pinned.
fn check_snapshot(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a snapshot");
    assert_eq!(text.matches('\n').count(), 1, "one line");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["schema"], "coldpress.snapshot");
    assert_eq!(document["version"], 1);
    assert!(document["pid"].as_u64().expect("a pid") > 1);
    let all = document["allocations"].as_array().expect("a list");
    assert_eq!(all.len(), 9);
    let of = |address: &str| {
        all.iter().find(|a| a["tags"] == serde_json::json!([address])).expect(address)
    };
    let first = of("model");
    assert_eq!(first["state"], "spilled");
    assert_eq!(first["bytes"], 1 << 20);
    assert_eq!((&first["device"], &first["pins"]), (&Value::from(0), &Value::from(0)));
    let layer = all.iter().filter(|a| a["tags"] == serde_json::json!(["model", "layer"]));
    assert_eq!(layer.count(), 2);
    let untagged: Vec<&Value> = all.iter().filter(|a| a["tags"] == serde_json::json!([])).collect();
    assert_eq!(untagged.len(), 3);
    assert_eq!(untagged.iter().filter(|a| a["pins"] == 1).count(), 1);
    let mut ids: Vec<u64> = all.iter().map(|a| a["id"].as_u64().expect("a number")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "no two have the same id");
}

#[test]
fn all_functions_under_a_preload() {
    let snapshot = fresh("preload.json");
    run(coldpress(&interface(), LIMIT).arg("with").arg(&snapshot));
    check_snapshot(&snapshot);
}

#[test]
fn all_functions_loaded_in_the_process() {
    let snapshot = fresh("load.json");
    let mut command = driver(&interface());
    command.env("COLDPRESS_CONF", LIMIT).env("COLDPRESS_VERBOSE", "0");
    run(command.arg("load").arg(&snapshot).arg(built("libcoldpress.so")));
    check_snapshot(&snapshot);
}

#[test]
fn a_driver_without_coldpress() {
    let stderr = run(driver(&interface()).arg("without"));
    assert_eq!(stderr, "");
}

#[test]
fn no_driver_at_all() {
    assert_eq!(run(bare(&interface()).arg("nothing")), "");
}

#[test]
fn coldpress_that_manages_nothing() {
    run(coldpress(&interface(), LIMIT).env("COLDPRESS_DISABLE", "1").arg("disabled"));
    run(coldpress(&interface(), "mode:trace").arg("disabled"));
}

fn threads() -> PathBuf {
    compile("threads", &["threads.cpp", "other_file.c"])
}

#[test]
fn threads_use_each_others_memory() {
    for streams in ["async", "eager", "lazy:3", "random:7"] {
        let mut command = coldpress(&threads(), "limit:12MiB,host_limit:256MiB");
        run(command.env("SIMCUDA_STREAMS", streams).arg("100"));
    }
}

#[test]
fn threads_without_coldpress() {
    run(driver(&threads()).arg("0"));
}
