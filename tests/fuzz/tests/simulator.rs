//! The random programs on the simulated driver alone: the model and the simulator agree before
//! anything stands between them. (tests/property.rs runs them under the library.)

use std::path::Path;
use std::process::Command;

/// A folder where the loader finds the simulator under the driver's name.
fn driver_folder(test: &str) -> std::path::PathBuf {
    let own = std::env::current_exe().expect("a path");
    // Cargo puts what a test was built with beside it.
    let library = own.with_file_name("libsimcuda.so");
    assert!(library.is_file(), "{} is missing", library.display());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{test}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    std::os::unix::fs::symlink(library, folder.join("libcuda.so.1")).expect("a link");
    folder
}

#[test]
fn the_model_agrees_with_the_driver_in_every_order() {
    let folder = driver_folder("agrees");
    for (seed, streams) in
        ["async", "eager", "lazy", "lazy:3", "random:5", "clocked"].iter().enumerate()
    {
        let devices = (1 + seed % 2).to_string();
        let out = Command::new(env!("CARGO_BIN_EXE_cuda-fuzz"))
            .args(["--sequences", "4", "--seed", &(seed * 100 + 1).to_string(), "--shrink", "20"])
            .args(["--devices", &devices])
            .env("SIMCUDA_DEVICES", &devices)
            .env("LD_LIBRARY_PATH", &folder)
            .env("SIMCUDA_STREAMS", streams)
            .env("SIMCUDA_GRANULARITY", "64KiB")
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "SIMCUDA_STREAMS={streams}: {}\n{said}", out.status);
        assert!(said.ends_with("4 passed, 0 failed\n"), "{said}");
    }
}

#[test]
fn a_failure_is_told_shrunk_and_kept() {
    let folder = driver_folder("told");
    let out = Command::new(env!("CARGO_BIN_EXE_cuda-fuzz"))
        .args(["--sequences", "1", "--shrink", "60", "--save"])
        .arg(&folder)
        .env("LD_LIBRARY_PATH", &folder)
        .env("SIMCUDA_FAIL", "cuMemsetD32Async:9=719")
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: step "), "{said}");
    assert!(said.contains(" steps fail too:"), "{said}");
    let kept = folder.join("seed-1.txt");
    let text = std::fs::read_to_string(&kept).expect("the program was written");
    assert!(text.contains("set SIMCUDA_FAIL=cuMemsetD32Async:9=719\n"), "{text}");
    // Nine allocations, each with its first fill; nothing of the rest is needed.
    assert_eq!(text.lines().filter(|l| l.starts_with("do ")).count(), 10, "{text}");

    // What was written fails by itself, and not without what it fails from.
    let replay = |fail: &str| {
        Command::new(env!("CARGO_BIN_EXE_cuda-fuzz"))
            .arg("--replay")
            .arg(&kept)
            .env("LD_LIBRARY_PATH", &folder)
            .env("SIMCUDA_FAIL", fail)
            .status()
            .expect("the program starts")
    };
    assert_eq!(replay("cuMemsetD32Async:9=719").code(), Some(1));
    assert_eq!(replay("").code(), Some(0));
    assert!(said.ends_with("0 passed, 1 failed\n"), "{said}");
}
