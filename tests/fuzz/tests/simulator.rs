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
    for (seed, streams) in ["async", "eager", "lazy", "lazy:3", "random:5"].iter().enumerate() {
        let out = Command::new(env!("CARGO_BIN_EXE_cuda-fuzz"))
            .args(["--sequences", "4", "--seed", &(seed * 100 + 1).to_string(), "--shrink", "20"])
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
fn a_failure_is_told_and_shrunk() {
    let out = Command::new(env!("CARGO_BIN_EXE_cuda-fuzz"))
        .args(["--sequences", "1", "--shrink", "30"])
        .env("LD_LIBRARY_PATH", driver_folder("told"))
        .env("SIMCUDA_FAIL", "cuMemsetD32Async:9=719")
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: step "), "{said}");
    assert!(said.contains(" of 200 steps fail too:"), "{said}");
    assert!(said.ends_with("0 passed, 1 failed\n"), "{said}");
}
