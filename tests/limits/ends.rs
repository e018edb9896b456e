//! Ends of every kind while evictions and restores are under way, and signals in their middle.

use super::{job, moved, right};
use std::os::unix::process::ExitStatusExt;

#[test]
fn the_exit_code_is_the_programs() {
    for way in [
        "returns",
        "frees-late",
        "frees-early",
        "exits-at-once",
        "exits-quickly",
        "exits-in-a-thread",
        "main-ends-first",
    ] {
        let outcome = job(way).outcome();
        assert!(!outcome.hung, "{way}: {outcome:#?}");
        assert_eq!(outcome.status.code(), Some(7), "{way}: {outcome:#?}");
        assert!(!outcome.stdout.contains("wrong bytes"), "{way}: {outcome:#?}");
    }
    let outcome = job("is-ended").outcome();
    assert!(!outcome.hung, "{outcome:#?}");
    assert_eq!(outcome.status.signal(), Some(libc::SIGTERM), "{outcome:#?}");
}

#[test]
fn a_storm_of_signals() {
    for way in ["signals-restart", "signals-interrupt"] {
        let outcome = right(job(way));
        moved(&outcome);
        assert!(outcome.stdout.contains("signals: many\n"), "{outcome:#?}");
    }
}

#[test]
fn the_programs_own_handler_of_faults() {
    let outcome = job("own-handler").outcome();
    assert_eq!(outcome.status.code(), Some(7), "{outcome:#?}");
    moved(&outcome);
}
