//! Addresses in device memory are found wherever they stand, by a kernel as by the host.

mod support;

use std::path::Path;
use std::time::Duration;
use support::{Run, compile};

#[test]
fn one_word_is_enough() {
    let include = format!("-I{}/include", env!("CARGO_MANIFEST_DIR"));
    let program = compile("pointers", "pointers", &[&include, "-ldl"]);
    let launched = |codec| {
        let outcome = Run::preloaded(Path::new(&program))
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("SIMCUDA_GRANULARITY", "64KiB")
            .env("COLDPRESS_CODEC", codec)
            .timeout(Duration::from_secs(60))
            .outcome();
        assert!(!outcome.hung && outcome.status.success(), "{codec}: {outcome:#?}");
        outcome.calls("cuLaunchKernel")
    };
    // The program itself launches nothing.
    assert_eq!(launched("cpu"), 0);
    assert!(launched("auto") > 20);
}
