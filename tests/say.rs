//! Everything a process under coldpress says, to the letter and in order. Each case is a process
//! of its own: this test program, started again to play one.

use coldpress::say::{self, Card};
use coldpress::stats;
use std::process::Command;
use std::time::Duration;

/// What a child plays.
const PLAY: &str = "TEST_SAY_PLAY";

/// Runs `play` in a child with these variables; what it said.
fn said(play: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("path"));
    for (name, _) in std::env::vars() {
        if name.starts_with("COLDPRESS_") || name.contains("RANK") || name.contains("LOCALID") {
            command.env_remove(name);
        }
    }
    command.args(["--exact", "child", "--ignored"]).env(PLAY, play);
    let out = command.envs(variables.iter().copied()).output().expect("starts");
    assert!(out.status.success());
    String::from_utf8(out.stderr).expect("text")
}

#[test]
#[ignore = "played by the other tests in a process of its own"]
fn child() {
    let play = std::env::var(PLAY).unwrap_or_default();
    let card = Card { name: "NVIDIA H200".to_owned(), bytes: 141 << 30 };
    say::started(&[card], 13000);
    let page = stats::page();
    if play == "helped" {
        for _ in 0..2 {
            say::first_eviction(3 << 30, Duration::from_millis(12));
            say::once("key", "said once");
            page.oom_avoided.add(1);
            page.evicted_bytes.add(3 << 30);
        }
    }
    say::ended();
    say::ended();
}

/// The start line on a machine with this driver, if any.
fn start(options: &str) -> String {
    let driver = say::driver_shown(13000);
    format!("coldpress 0.1: {options} (off: COLDPRESS_DISABLE=1)\n")
        .replace("DRIVER", &format!("driver {driver}"))
}

#[test]
fn a_job_that_needed_no_help() {
    assert_eq!(
        said("quiet", &[]),
        start("rescue, H200 141 GB, DRIVER, verify on")
            + "coldpress: no help was needed: peak 0 B, nothing moved\n"
    );
}

#[test]
fn a_job_that_was_helped() {
    let text = said("helped", &[("COLDPRESS_CONF", "limit:20GiB,limti:3")]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "coldpress: unknown option limti; nearest is limit");
    let expected = start("rescue, H200 141 GB, DRIVER, limit 20 GiB, verify on");
    assert_eq!(lines[1], expected.trim_end());
    let first = "coldpress: out of memory avoided: 3 GiB moved to host memory in 12 ms; watch: coldpress stat ";
    assert!(lines[2].starts_with(first), "{}", lines[2]);
    assert_eq!(lines[3], "coldpress: said once");
    assert_eq!(
        lines[4],
        "coldpress: 2 out of memory avoided, 6 GiB moved out and 0 B back; waited 0 % of the run; \
         0 B verified; tune: coldpress env"
    );
    assert_eq!(lines.len(), 5);
}

#[test]
fn one_rank_of_a_node_speaks_for_all_that_are_alike() {
    let rank = |n: &str, play: &str| said(play, &[("LOCAL_RANK", n), ("RANK", n)]);
    assert_eq!(rank("0", "quiet").lines().count(), 2);
    assert_eq!(rank("3", "quiet"), "");
    let text = rank("3", "helped");
    assert!(
        text.lines().last().expect("a line").starts_with("coldpress: rank 3: 2 out of"),
        "{text}"
    );
    assert!(!text.contains("0.1: rescue"), "{text}");
}

#[test]
fn switched_off() {
    let disable = ("COLDPRESS_DISABLE", "1");
    assert_eq!(said("quiet", &[disable]), "coldpress: off: COLDPRESS_DISABLE\n");
    let strict = [("COLDPRESS_STRICT", "1"), ("COLDPRESS_CONF", "mode:fast")];
    assert_eq!(
        said("quiet", &strict),
        "coldpress: off: COLDPRESS_STRICT: mode takes rescue, active, trace, not \"fast\"; \
         mode:rescue stays\n"
    );
}

#[test]
fn less_and_more_to_read() {
    assert_eq!(said("quiet", &[("COLDPRESS_VERBOSE", "0")]), "");
    let text = said("quiet", &[("COLDPRESS_VERBOSE", "1"), ("COLDPRESS_TORTURE", "on")]);
    assert!(text.contains("coldpress:   torture:on (COLDPRESS_TORTURE)\n"), "{text}");
    assert!(text.contains("coldpress:   limit:100% (default)\n"), "{text}");
    let text = said("quiet", &[("COLDPRESS_LOG", "loud")]);
    assert!(text.starts_with("coldpress: COLDPRESS_LOG takes error, warn,"), "{text}");
}
