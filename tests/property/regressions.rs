//! Programs that failed once and must not again: the files of `tests/fuzz/regressions`.
//!
//! Each is what `cuda-fuzz --save` writes: the settings, and the operations with their numbers,
//! so that it does the same whatever the generator becomes.

use crate::run::{fuzz, leaks};
use crate::support::Folder;
use std::fs;
use std::path::Path;

#[test]
fn programs_that_failed_once_run() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions");
    let mut files: Vec<_> =
        fs::read_dir(kept).expect("the folder").map(|f| f.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing is kept");
    let folder = Folder::new();
    let mut failures = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        let settings = text.lines().filter_map(|line| line.strip_prefix("set ")?.split_once('='));
        let report = folder.join("report.json");
        let _ = fs::remove_file(&report);
        let mut command = fuzz(&report);
        command.envs(settings).arg("--replay").arg(&file).args(["--timeout", "60"]);
        let out = command.output().expect("cuda-fuzz starts");
        let said = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            failures.push(format!("{}: {}\n{said}", file.display(), out.status));
        } else if let Err(left) = leaks(&report) {
            failures.push(format!("{}: {left}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
