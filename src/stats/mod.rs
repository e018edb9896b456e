//! Counters and gauges of this process, on a page that other programs can read while it runs.
//!
//! Owns: the page, its file, and the requests that reach the process through it. Never: what a
//! number means for residency. Before [`open`], and where no file can be made, the page is
//! plain memory; counting is one relaxed atomic operation either way, without lock or allocation.
//! A forked child counts on a page of its own that nobody sees.

mod cell;
mod file;
mod page;

pub use cell::{BUCKETS, Counter, Histogram, Text};
pub use file::{View, find, folder, list};
pub use page::{
    COUNTERS, Command, DEVICES, DevicePage, MAGIC, MODES, Page, REASONS, Request, VERSION,
};

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Where this process counts until it has a file.
static PLAIN: Page = Page::new();
static CURRENT: AtomicPtr<Page> = AtomicPtr::new((&raw const PLAIN).cast_mut());
/// The file and the process that made it.
static FILE: Mutex<Option<(PathBuf, u32)>> = Mutex::new(None);

/// The page of this process.
#[inline]
pub fn page() -> &'static Page {
    // SAFETY: always points to `PLAIN` or to a mapping that is never unmapped.
    unsafe { &*CURRENT.load(Ordering::Acquire) }
}

/// Gives the page a file, so that others can read it. Called once CUDA is initialised; what was
/// counted before is carried over. Without a file everything works, only unseen; the error says
/// why.
pub fn open() -> std::io::Result<()> {
    let mut file = FILE.lock();
    let pid = std::process::id();
    if file.as_ref().is_some_and(|(_, owner)| *owner == pid) {
        return Ok(());
    }
    let (shared, path) = file::create(pid)?;
    carry(&PLAIN, shared);
    describe(shared, pid);
    // Readers look at the magic first, so it comes last.
    shared.magic.word().store(MAGIC, Ordering::Release);
    CURRENT.store(std::ptr::from_ref(shared).cast_mut(), Ordering::Release);
    *file = Some((path, pid));
    static FORKS: Once = Once::new();
    FORKS.call_once(|| {
        // SAFETY: the handler only stores a pointer, which is allowed between fork and exec.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    Ok(())
}

/// Removes the file. The page stays, for threads that still count.
pub fn close() {
    // At exit another thread may have been stopped while it held the lock.
    let Some(mut file) = FILE.try_lock() else { return };
    if let Some((path, _)) = file.take_if(|(_, owner)| *owner == std::process::id()) {
        let _ = std::fs::remove_file(path);
    }
}

/// The child of a fork: the file is the parent's.
extern "C" fn forked() {
    CURRENT.store((&raw const PLAIN).cast_mut(), Ordering::Release);
}

/// The words of a page.
fn words(page: &Page) -> &[AtomicU64] {
    const { assert!(size_of::<Page>().is_multiple_of(8)) };
    let first = std::ptr::from_ref(page).cast::<AtomicU64>();
    // SAFETY: a page consists of nothing but 64-bit atomic words, so without padding, and lives
    // as long as the borrow.
    unsafe { std::slice::from_raw_parts(first, size_of::<Page>() / 8) }
}

fn carry(from: &Page, to: &Page) {
    for (from, to) in words(from).iter().zip(words(to)) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn describe(page: &Page, pid: u32) {
    page.version.set(VERSION);
    page.size.set(size_of::<Page>() as u64);
    page.pid.set(u64::from(pid));
    page.pid_start.set(file::start_time(pid).unwrap_or(0));
    page.opened_ns.set(now_ns());
    page.library.set(env!("CARGO_PKG_VERSION"));
    page.host_limit.set(crate::config::get().host_limit_bytes());
    page.mode.set(crate::config::value("mode"));
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    page.command_line.set(&line);
}

/// The monotonic clock, the same for all processes.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live local; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
