//! The kernels compiled with AddressSanitizer and UndefinedBehaviorSanitizer: whatever the bytes
//! are, nothing beside page, blob and work space is read or written.

use super::full::pick;
use std::path::Path;
use std::process::Command;

#[test]
fn nothing_beside_page_and_blob_is_touched() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (build, flags) in [
        ("any", &[][..]),
        ("avx2", &["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]),
        ("device", &["-DCP_AS_DEVICE"]),
    ] {
        if build == "avx2" && !is_x86_feature_detected!("avx2") {
            continue;
        }
        let program =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("codec-sanitized-{build}"));
        let made = Command::new("g++")
            .args([
                "-std=c++17",
                "-O1",
                "-g",
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
            ])
            .args(["-DCP_ISA=any"])
            .args(flags)
            .arg(root.join("tests/codec/sanitized.cc"))
            .arg("-o")
            .arg(&program)
            .status();
        assert!(made.expect("g++").success());
        let pages = pick(150, 20_000).to_string();
        let done = Command::new(&program).args(["1", &pages]).output().expect("starts");
        let (said, complained) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{build}: {said}\n{complained}");
        // All kinds of pages, and broken ones of both kinds.
        let numbers: Vec<u64> =
            said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers.len(), 7, "{said}");
        assert!(numbers[2..6].iter().all(|&n| n > 0), "{build}: {said}");
        println!("{build}: {said}");
    }
}
