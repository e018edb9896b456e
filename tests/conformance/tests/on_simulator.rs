//! The whole suite on the simulated driver, in every stream mode and at both ends of the
//! granularity.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A folder in which the loader finds the simulator under the driver's name.
fn driver_folder() -> PathBuf {
    // Cargo puts what this test was built with beside the test's own binary.
    let own = std::env::current_exe().expect("a path");
    let library = own.with_file_name("libsimcuda.so");
    assert!(library.is_file(), "{} is missing", library.display());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance-driver");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    // Tests run at the same time: make the link aside and move it into place.
    let aside = folder.join(format!("link-{:?}", std::thread::current().id()));
    let _ = std::fs::remove_file(&aside);
    std::os::unix::fs::symlink(&library, &aside).expect("a link in the target folder");
    std::fs::rename(&aside, folder.join("libcuda.so.1")).expect("a link in the target folder");
    folder
}

fn suite(settings: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuda-conformance"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SIMCUDA_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(arguments)
        .env("LD_LIBRARY_PATH", driver_folder())
        .envs(settings.iter().copied())
        .output()
        .expect("the suite starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), if text.is_empty() { errors.into_owned() } else { text })
}

/// All cases pass; at most `skips` are not asked.
fn passes(mode: &str, granularity: &str, skips: u64) {
    let settings = [("SIMCUDA_STREAMS", mode), ("SIMCUDA_GRANULARITY", granularity)];
    let (success, text) = suite(&settings, &["--json"]);
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let failed: Vec<&Value> = document["cases"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| c["result"] == "failed")
        .collect();
    assert!(success && failed.is_empty(), "{mode}, {granularity}: {failed:#?}");
    assert!(document["passed"].as_u64() > Some(150), "{text}");
    assert!(document["skipped"].as_u64() <= Some(skips), "{text}");
    assert_eq!(document["driver"]["simulated"], true);
}

#[test]
fn asynchronous() {
    passes("async", "4KiB", 0);
    passes("async", "2MiB", 0);
}

#[test]
fn eager() {
    passes("eager", "4KiB", 13);
    passes("eager", "2MiB", 13);
}

#[test]
fn lazy() {
    passes("lazy", "4KiB", 0);
    passes("lazy", "2MiB", 0);
}

#[test]
fn random() {
    passes("random:7", "4KiB", 4);
    passes("random:7", "2MiB", 4);
}

#[test]
fn strict() {
    let settings = [("SIMCUDA_STRICT", "1")];
    let (success, text) = suite(&settings, &[]);
    assert!(success, "{text}");
}

#[test]
fn last_line_counts_and_unknown_filters_fail() {
    let (success, text) = suite(&[], &["--filter", "device."]);
    assert!(success, "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains(" passed, 0 failed, 0 skipped; "), "{last}");
    assert!(last.ends_with("expectations not yet seen on a card"), "{last}");
    let (success, text) = suite(&[], &["--filter", "no such case"]);
    assert!(!success && text.contains("no such case"), "{text}");
}

#[test]
fn a_failed_case_fails_the_suite() {
    let settings = [("SIMCUDA_FAIL", "cuMemAllocPitch_v2:1=2")];
    let (success, text) = suite(&settings, &["--filter", "memory.pitch"]);
    assert!(!success && text.contains("FAILED  memory.pitch: "), "{text}");
    assert!(text.contains("CUDA_ERROR_OUT_OF_MEMORY (2)"), "{text}");
}

#[test]
fn measurements_run() {
    let settings = [("SIMCUDA_MEMORY", "64MiB"), ("SIMCUDA_GRANULARITY", "64KiB")];
    for name in ["map-cost", "map-overlap", "capture", "reserve", "pointers"] {
        let (success, text) = suite(&settings, &["--measure", name]);
        assert!(success, "{name}: {text}");
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(document["schema"], "cuda.measurement");
        assert_eq!(document["driver"]["simulated"], true);
        assert!(document["data"].is_object(), "{name}: {text}");
    }
    let (success, text) = suite(&settings, &["--measure", "nothing"]);
    assert!(!success && text.contains("map-cost, map-overlap"), "{text}");
}
