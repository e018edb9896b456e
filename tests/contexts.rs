//! What the library has in a context is there in time, ends with it, and is not touched when it has gone already.

mod support;

use std::time::Duration;
use support::{Run, compile};

#[test]
fn a_context_that_has_ended_unexpectedly_is_left_alone() {
    let include = format!("-I{}/include", env!("CARGO_MANIFEST_DIR"));
    let program = compile("released", "released", &[&include, "-ldl"]);
    for codec in ["auto", "cpu"] {
        let outcome = Run::preloaded(&program)
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("SIMCUDA_GRANULARITY", "64KiB")
            .env("COLDPRESS_CODEC", codec)
            .timeout(Duration::from_secs(60))
            .outcome();
        assert!(!outcome.hung && outcome.status.success(), "{codec}: {outcome:#?}");
        // Otherwise this was not the last release, and nothing was tested.
        assert_eq!(outcome.stdout, "active 0\n", "{codec}");
    }
}

/// The kernels are in a context before it is short of memory, code and all: loading them may wait
/// for the device, and takes memory.
#[test]
fn the_kernels_are_there_before_they_are_needed() {
    let program = compile("equipped", "equipped", &["-ldl"]);
    for (codec, loads) in [("auto", 2), ("cpu", 0)] {
        let outcome = Run::preloaded(&program)
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("SIMCUDA_GRANULARITY", "64KiB")
            .env("COLDPRESS_CODEC", codec)
            .timeout(Duration::from_secs(60))
            .outcome();
        assert!(!outcome.hung && outcome.status.success(), "{codec}: {outcome:#?}");
        // The program itself loads nothing and launches nothing.
        assert_eq!(outcome.calls("cuLaunchKernel"), 0, "{codec}: nothing had to leave");
        assert_eq!(outcome.calls("cuModuleLoadData"), loads, "{codec}");
        assert_eq!(outcome.calls("cuFuncLoad"), 3 * loads, "{codec}: kernels of a module");
    }
}
