//! The functions for PyTorch's pluggable allocator, called by a C++ program the way PyTorch calls
//! them.

#[path = "capi/harness.rs"]
mod harness;

use harness::{built, coldpress, compile, driver, fresh, run};
use std::path::PathBuf;

fn program() -> PathBuf {
    compile("torch", &["torch.cpp"])
}

#[test]
fn training_under_a_limit() {
    for streams in ["async", "eager", "lazy:3", "random:11"] {
        let mut command = coldpress(&program(), "limit:16MiB,host_limit:256MiB");
        command.env("SIMCUDA_STREAMS", streams);
        run(command.arg(built("libcoldpress.so")).arg("train"));
    }
}

#[test]
fn training_with_the_library_loaded_by_the_allocator() {
    let mut command = driver(&program());
    command.env("COLDPRESS_CONF", "limit:16MiB,host_limit:256MiB").env("COLDPRESS_VERBOSE", "0");
    run(command.arg(built("libcoldpress.so")).arg("train"));
}

#[test]
fn frees_are_in_stream_order() {
    run(coldpress(&program(), "limit:50%").arg(built("libcoldpress.so")).arg("order"));
}

#[test]
fn odd_calls_are_survived() {
    let mut command = coldpress(&program(), "host_limit:256MiB");
    command.env("SIMCUDA_DEVICES", "2");
    let stderr = run(command.arg(built("libcoldpress.so")).arg("edges"));
    let refused = stderr.lines().filter(|l| l.contains("PyTorch asked for")).count();
    assert_eq!(refused, 4, "each failure is told:\n{stderr}");
}

#[test]
fn a_pool_is_kept_until_its_release() {
    run(coldpress(&program(), "host_limit:256MiB").arg(built("libcoldpress.so")).arg("pools"));
}

#[test]
fn a_free_after_the_end_is_nothing() {
    run(coldpress(&program(), "host_limit:256MiB").arg(built("libcoldpress.so")).arg("exits"));
}

#[test]
fn a_copy_only_allocates() {
    let copy = fresh("copy.so");
    std::fs::copy(built("libcoldpress.so"), &copy).expect("copied");
    // Beside the preloaded one, and after the driver.
    for mut command in [coldpress(&program(), "host_limit:256MiB"), driver(&program())] {
        let stderr = run(command.arg(&copy).arg("inactive"));
        assert_eq!(stderr.matches("so it only allocates").count(), 1, "said once:\n{stderr}");
    }
}

#[test]
fn without_eviction_everything_still_works() {
    let mut command = coldpress(&program(), "mode:trace");
    run(command.arg(built("libcoldpress.so")).arg("inactive"));
}
