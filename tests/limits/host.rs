//! Host memory ends: spilling stops, what is away comes back all the same.

use super::{buffers, job, moved, right, shell};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn with_enough_the_job_has_all_it_wants() {
    let outcome = right(job("hungry"));
    moved(&outcome);
    assert_eq!(buffers(&outcome), 96);
}

/// At the end of both memories each buffer still changes places with others: a part of the host
/// memory is never given to anything new.
#[test]
fn what_is_away_comes_back_when_both_memories_are_full() {
    for host in ["5MiB", "12MiB", "33MiB"] {
        // A card with more than the limit would help out.
        let job = job("hungry").env("COLDPRESS_HOST_LIMIT", host).env("SIMCUDA_MEMORY", "8MiB");
        let outcome = right(job);
        assert!(buffers(&outcome) < 96, "{host}: there was no end");
        let said = outcome.said().iter().any(|l| l.contains("(host_limit); evicting less"));
        assert!(said, "{host}: {outcome:#?}");
    }
}

#[test]
fn without_host_memory_the_job_gets_what_the_limit_holds() {
    let outcome = right(job("hungry").env("COLDPRESS_HOST_LIMIT", "0"));
    assert!((3..=4).contains(&buffers(&outcome)), "{outcome:#?}");
}

#[test]
fn an_address_space_that_ends() {
    let outcome = right(job("no-addresses"));
    moved(&outcome);
    assert!(buffers(&outcome) < 96, "there was no end: {outcome:#?}");
}

#[test]
fn host_memory_that_cannot_be_pinned_serves_too() {
    moved(&right(job("plain").env("SIMCUDA_FAIL", "cuMemHostRegister_v2:*=2")));
}

/// What nobody can be asked about is not taken.
#[test]
fn no_descriptors_are_left() {
    let outcome = right(job("no-files"));
    assert!(buffers(&outcome) >= 3, "{outcome:#?}");
}

#[test]
fn no_mappings_are_left_for_a_while() {
    moved(&right(job("no-mappings").env("COLDPRESS_RESTORE_WAIT", "100ms")));
}

/// The share of each process of the job; nonsense is no number of processes.
#[test]
fn the_node_is_shared() {
    let limit = |ranks: Option<&str>| {
        let run = job("plain").env("COLDPRESS_VERBOSE", "1").env("COLDPRESS_HOST_LIMIT", "50%");
        let run = ranks.into_iter().fold(run, |run, n| run.env("LOCAL_WORLD_SIZE", n));
        // The machine's memory changes; a machine that is not there does not.
        let root = run.folder().path().join("machine");
        machine(&root, "MemTotal: 0 kB\nMemAvailable: 131072 kB\n", &[]);
        let outcome = right(run.env("TEST_COLDPRESS_CGROUP", &root));
        moved(&outcome);
        outcome
    };
    limit(None);
    limit(Some("0"));
    limit(Some("many"));
    // A sixty-fourth of the half of 128 MiB: less than one buffer, so nothing can leave.
    let run = job("hungry").env("COLDPRESS_HOST_LIMIT", "50%").env("LOCAL_WORLD_SIZE", "64");
    let root = run.folder().path().join("machine");
    machine(&root, "MemTotal: 0 kB\nMemAvailable: 131072 kB\n", &[]);
    let outcome = right(run.env("TEST_COLDPRESS_CGROUP", &root));
    assert!((3..=4).contains(&buffers(&outcome)), "{outcome:#?}");
}

/// A machine for the library to look at.
fn machine(root: &Path, memory: &str, files: &[(&str, &str)]) {
    for (path, text) in [("proc/meminfo", memory)].iter().chain(files) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}

#[test]
fn a_control_group_of_version_2_has_little_room() {
    let run = job("hungry");
    let root = run.folder().path().join("machine");
    let files = [
        ("proc/self/cgroup", "0::/pod/container\n"),
        ("sys/fs/cgroup/pod/container/memory.max", "max\n"),
        ("sys/fs/cgroup/pod/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/pod/memory.current", "943718400\n"),
    ];
    let run = run.env("COLDPRESS_HOST_LIMIT", "1GiB");
    machine(&root, "MemTotal: 0 kB\nMemAvailable: 1048576 kB\n", &files);
    let outcome = right(run.env("TEST_COLDPRESS_CGROUP", &root));
    let said = outcome.said().iter().any(|l| l.contains("control group has no more host memory"));
    assert!(said && buffers(&outcome) < 96, "{outcome:#?}");
}

/// A real one, where this machine lets us make it: without looking at it the job would be killed.
#[test]
fn a_control_group_of_version_1_that_kills() {
    let group = PathBuf::from(format!("/sys/fs/cgroup/memory/coldpress-{}", std::process::id()));
    if fs::create_dir(&group).is_err() {
        println!("skipped: no control group of version 1 can be made here");
        return;
    }
    let limit = fs::write(group.join("memory.limit_in_bytes"), "150M");
    let script = "echo $$ > \"$GROUP\"/tasks && exec $JOB";
    let run = shell(script, "hungry").env("GROUP", &group).env("COLDPRESS_HOST_LIMIT", "1GiB");
    let outcome = limit.is_ok().then(|| run.outcome());
    let _ = fs::remove_dir(&group);
    let outcome = outcome.expect("a limit").well();
    assert!(outcome.stdout.contains("right\n") && buffers(&outcome) < 96, "{outcome:#?}");
    let said = outcome.said().iter().any(|l| l.contains("control group has no more host memory"));
    assert!(said, "{outcome:#?}");
}
