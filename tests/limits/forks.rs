//! Forks, and what a core file holds.

use super::{job, moved, right, under};
use crate::support::{Run, program};
use std::fs;

/// A child gets the driver's own answer for everything, does not inherit the host arena, and a
/// program that it becomes works like any other.
#[test]
fn children() {
    let outcome = right(job("forks"));
    moved(&outcome);
    for line in
        ["in the host tier: something", "child: 0", "child with exec: 0", "child of vfork: 0"]
    {
        assert!(outcome.stdout.lines().any(|l| l == line), "{line}: {outcome:#?}");
    }
}

#[test]
fn children_while_threads_are_in_the_middle_of_it() {
    let outcome = right(job("fork-storm"));
    moved(&outcome);
    assert!(outcome.stdout.contains("bad children: 0\n"), "{outcome:#?}");
}

/// Evicted bytes are as private as device memory was: they are in no core file.
#[test]
fn a_core_file_has_no_evicted_bytes() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.trim() != "core" {
        println!("skipped: core files do not go to the working folder here");
        return;
    }
    let run = under(Run::preloaded("/usr/bin/env".as_ref()));
    let folder = run.folder().path().to_path_buf();
    let run = run.arg(format!("--chdir={}", folder.display())).arg(program("limits")).arg("core");
    let (outcome, cores) = run.outcome_and(|folder| {
        let files = fs::read_dir(folder).expect("the folder").filter_map(|f| Some(f.ok()?.path()));
        let cores = files
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("core")));
        cores.map(|p| fs::read(p).expect("the core")).collect::<Vec<_>>()
    });
    let line = outcome.stdout.lines().find_map(|l| l.strip_prefix("look for "));
    let (words, own) = line.and_then(|l| l.split_once(" and ")).expect("what to look for");
    let evicted: Vec<u8> = (0..3)
        .flat_map(|i| u64::from_str_radix(&words[i * 16..][..16], 16).expect("hex").to_le_bytes())
        .collect();
    let [core] = &cores[..] else { panic!("{} core files: {outcome:#?}", cores.len()) };
    let holds = |what: &[u8]| core.windows(what.len()).any(|w| w == what);
    assert!(holds(own.as_bytes()), "the program's own memory is in it");
    assert!(!holds(&evicted), "evicted bytes are in it");
}
