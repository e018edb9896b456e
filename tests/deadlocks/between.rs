//! Rules that show only while a thread stands between two steps, or on a driver that is slower or
//! older than others.

use super::blocked::outcome;
use super::{judged, paused, prepared, run};

/// An eviction by somebody else finds pinned what an operation is about to use.
#[test]
fn what_was_restored_stays_until_the_call() {
    let done = paused("between", &["prepared"], "prepared");
    assert_eq!(done.stdout, "evicted: no\n", "{}", done.stderr);
}

/// The first look of a launch is not the last.
#[test]
fn a_launch_sees_what_left_since_it_looked() {
    let done = paused("between", &["launch"], "launch");
    assert_eq!(done.stdout, "evicted: yes\n", "{}", done.stderr);
}

/// Whoever holds the ticket later frees what was on its way back.
#[test]
fn what_is_freed_on_its_way_back_is_not_lost() {
    paused("between", &["freed"], "rescue");
}

/// Somebody else is at work when a launch's patience ends: its last try comes after that.
#[test]
fn the_last_try_is_not_left_out() {
    let run = prepared("between", &["late"]).env("COLDPRESS_RESTORE_WAIT", "2s");
    judged(run.paused("restore-begun").env("SIMCUDA_LIBRARY", super::support::simulator()));
}

/// A copy that fails keeps more than its own block.
#[test]
fn what_stays_after_all_keeps_what_it_names() {
    paused("between", &["stays"], "evict-copied");
}

/// The default stream is one of them.
#[test]
fn every_stream_has_its_event_on_an_old_driver() {
    for version in ["13000", "12040"] {
        for stream in ["own", "default"] {
            let done = run("pressure", &[stream], &[("SIMCUDA_DRIVER_VERSION", version)]);
            assert_eq!(outcome(&done.stdout, "blocked"), 2, "{stream}, {version}");
        }
    }
}

/// Where the card reaches all host memory, a copy comes back before it was made: the bytes of what
/// leaves are not there yet, and what comes back is not on the device.
#[test]
fn copies_are_waited_for_where_the_driver_does_not() {
    for streams in ["lazy:3", "clocked:200,10"] {
        let late = [
            ("SIMCUDA_PAGEABLE", "1"),
            ("SIMCUDA_STREAMS", streams),
            ("COLDPRESS_RESTORE_WAIT", "60s"),
        ];
        run("pressure", &["sizes"], &late);
    }
}
