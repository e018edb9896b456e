//! The life of a statistics page: made, carried over, hidden from forks, tidied up. One test,
//! because there is one page a process.

use coldpress::stats;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_page_from_first_count_to_last() {
    let pid = std::process::id();
    stats::page().allocations.add(5);
    stats::page().set_passthrough("early");
    stats::open().expect("a page");
    stats::open().expect("a second call changes nothing");
    let page = stats::page();
    assert_eq!(page.allocations.get(), 5, "carried over");
    page.set_passthrough("late");

    let folder = stats::folder().expect("a folder");
    assert_eq!(fs::metadata(&folder).expect("folder").mode() & 0o777, 0o700);
    let view = stats::find(pid).expect("readable").expect("there");
    page.allocations.add(1);
    assert_eq!(view.allocations.get(), 6, "seen by others at once");
    assert_eq!(view.passthrough.get().as_deref(), Some("early"), "the first reason stays");
    assert!(view.command_line.get().expect("written").contains("stats"));

    // SAFETY: the child only counts and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        stats::page().allocations.add(100);
        stats::close();
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our own child, a live local.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(view.allocations.get(), 6, "a fork counts for itself");
    assert!(stats::find(pid).expect("readable").is_some(), "and removes nothing");

    // A page of a process that is gone (here: our own bytes under its pid).
    let mut gone = std::process::Command::new("true").spawn().expect("starts");
    gone.wait().expect("ends");
    let stale = folder.join(format!("{}.stats", gone.id()));
    fs::copy(folder.join(format!("{pid}.stats")), &stale).expect("copied");
    let listed = stats::list().expect("readable");
    assert_eq!(listed.iter().filter(|v| v.pid.get() == u64::from(pid)).count(), 1);
    assert!(!stale.exists(), "removed by the reader");

    stats::close();
    assert!(stats::find(pid).expect("readable").is_none());
    page.allocations.add(1);
    assert_eq!(page.allocations.get(), 7, "late counts hurt nobody");
}
