//! Files, descriptors, disks and calls that are not to be had.

use super::{buffers, job, moved, right, shell, under};
use crate::support::{self, Run, artefact, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn files_may_not_grow() {
    let run = job("no-file-sizes");
    let log = run.folder().path().join("log");
    moved(&right(run.env("COLDPRESS_LOG", format!("trace:{}", log.display()))));
}

#[test]
fn a_full_disk() {
    moved(&right(job("plain").env("COLDPRESS_LOG", "trace:/dev/full")));
}

/// Another file of the program's has the number of standard error: none of our lines go there.
#[test]
fn without_standard_error() {
    let run = shell("cd \"$XDG_RUNTIME_DIR\" && exec $JOB 2>&-", "own-files");
    let log = run.folder().path().join("log");
    right(run.env("COLDPRESS_LOG", format!("debug:{}", log.display())));
    let run = shell("cd \"$XDG_RUNTIME_DIR\" && exec $JOB 0<&- 2>&-", "plain");
    right(run);
}

#[test]
fn nobody_reads_standard_error_any_more() {
    // The shell waits for the reader to be gone before it starts the job.
    let script = "{ sleep 0.2; $JOB; echo \"code $?\" >&3; } 2>&1 >&3 | true; wait";
    let outcome = shell(&format!("exec 3>&1; {script}"), "plain").outcome().well();
    assert_eq!(outcome.stdout, "right\nbuffers: 12\ncode 0\n", "{outcome:#?}");
}

/// No folder for the statistics page: a read-only home, no /dev/shm, a full /tmp.
#[test]
fn nowhere_to_write() {
    let script = "mount -t tmpfs -o size=4k none /dev/shm && mount -o remount,ro /dev/shm \
                  && mount -t tmpfs -o size=4k,nr_inodes=1 none /tmp && cd / && exec $JOB";
    let run = shell(&format!("exec unshare -m sh -c '{script}'"), "plain");
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace can be made here");
        return;
    }
    let run = run.env("XDG_RUNTIME_DIR", "/proc/none").env("HOME", "/proc/none");
    let outcome = right(run);
    moved(&outcome);
    assert!(outcome.said().iter().any(|l| l.starts_with("no statistics page")), "{outcome:#?}");
}

fn forbidden(calls: &str, circumstance: &str) -> Run {
    let run = under(Run::preloaded(&program("forbid")));
    run.arg(calls).arg(program("limits")).arg(circumstance)
}

#[test]
fn calls_that_a_container_forbids() {
    for calls in ["socket", "process_vm_readv", "madvise", "fallocate,statx", "sigtimedwait"] {
        moved(&right(forbidden(calls, "plain")));
    }
    // The program's host memory cannot be looked at: nothing may be evicted, and it says so.
    let outcome = right(forbidden("process_vm_readv", "no-files"));
    let said = outcome.said().iter().any(|l| l.contains("host memory cannot be looked at"));
    assert!(said && buffers(&outcome) < 12, "{outcome:#?}");
}

/// Random programs that hide addresses in pinned host memory, where only the second way to look
/// at it is open.
#[test]
fn hidden_addresses_are_found_the_other_way_too() {
    let run = under(Run::preloaded(&program("forbid")))
        .arg("process_vm_readv")
        .arg(artefact("cuda-fuzz"))
        .args(["--seed", "1", "--sequences", "6", "--limit", "1048576"])
        .env("SIMCUDA_LIBRARY", support::simulator())
        .env("COLDPRESS_LIMIT", "1MiB");
    let outcome = run.outcome().well();
    assert!(outcome.stdout.contains("6 passed, 0 failed"), "{outcome:#?}");
    moved(&outcome);
}

/// Another user's folder with our name does not help anybody in.
#[test]
fn a_folder_that_is_open_to_others() {
    let run = job("plain");
    let folder = run.folder().path().join("coldpress");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("rights");
    let (outcome, pages) =
        run.outcome_and(|f| fs::read_dir(f.join("coldpress")).map(Iterator::count));
    assert!(outcome.well().stdout.contains("right\n"));
    assert_eq!(pages.expect("the folder"), 0);
}
