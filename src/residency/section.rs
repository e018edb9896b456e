//! Launch sections and the stopped world.
//!
//! A thread is inside a section from the moment it checks a block's state until the driver call
//! that uses the block has returned. An evictor stops the world: no thread enters a section, and
//! it waits, bounded, until every thread has left. Without this a thread that had already seen
//! "resident" could launch on memory that is gone (interception rule 2 of the eviction protocol).
//!
//! Owns: one record per thread (an epoch, a launch counter); the protocol is in `epoch`. The
//! fast path takes no lock and allocates nothing after a thread's first section.

use super::epoch::{Epoch, Flag};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One thread's record; leaked and reused, never freed.
#[repr(align(64))]
#[derive(Debug)]
struct Record {
    epoch: Epoch,
    launches: AtomicU64,
    taken: AtomicBool,
    next: AtomicPtr<Record>,
}

static RECORDS: AtomicPtr<Record> = AtomicPtr::new(std::ptr::null_mut());
static STOPPED: Flag = Flag(AtomicBool::new(false));
static GATE: Mutex<()> = Mutex::new(());
static OPEN: Condvar = Condvar::new();

thread_local! {
    static MINE: Cell<*const Record> = const { Cell::new(std::ptr::null()) };
}

/// Proof that this thread is inside a section.
#[derive(Debug)]
pub struct Section {
    record: &'static Record,
}

/// Enters a section, waiting while the world is stopped. Never call it inside one.
#[inline]
pub fn enter() -> Section {
    let record = mine();
    while !record.epoch.try_enter(&STOPPED) {
        wait_open();
    }
    Section { record }
}

impl Section {
    /// Counts a launch of this thread.
    #[inline]
    pub fn count_launch(&self) {
        let n = self.record.launches.load(Ordering::Relaxed);
        self.record.launches.store(n.wrapping_add(1), Ordering::Relaxed);
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        self.record.epoch.leave();
    }
}

/// Launches counted by all threads so far.
pub fn launches() -> u64 {
    records().map(|r| r.launches.load(Ordering::Relaxed)).sum()
}

/// The stopped world; it runs again when this is dropped.
#[derive(Debug)]
pub struct Stopped(());

/// Stops the world: no section can be entered. Waits up to `patience` until all are left, and
/// gives up (the world runs again) when that takes longer. The caller must not be in a section
/// and must be the only one to call this (it holds the ticket).
pub fn stop(patience: Duration) -> Option<Stopped> {
    let stopped = Stopped(());
    STOPPED.stop();
    left(patience).then_some(stopped)
}

/// Waits up to `patience` until every section that somebody is in now has been left; others may be
/// entered meanwhile.
pub fn left(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    for record in records() {
        let mut spins = 0u32;
        let left = record.epoch.drained(|| {
            spins += 1;
            if spins < 200 {
                std::hint::spin_loop();
                return true;
            }
            std::thread::yield_now();
            Instant::now() < deadline
        });
        if !left {
            return false;
        }
    }
    true
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _gate = GATE.lock();
        STOPPED.resume();
        OPEN.notify_all();
    }
}

#[cold]
fn wait_open() {
    let mut gate = GATE.lock();
    while STOPPED.stopped() {
        OPEN.wait_for(&mut gate, Duration::from_millis(100));
    }
}

fn records() -> impl Iterator<Item = &'static Record> {
    let mut next = RECORDS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: records are leaked boxes linked once; a non-null pointer stays valid forever.
        let record = unsafe { next.as_ref()? };
        next = record.next.load(Ordering::Acquire);
        Some(record)
    })
}

#[inline]
fn mine() -> &'static Record {
    let record = MINE.with(Cell::get);
    // SAFETY: only `register` stores here, always a leaked record.
    match unsafe { record.as_ref() } {
        Some(record) => record,
        None => register(),
    }
}

#[cold]
fn register() -> &'static Record {
    let free = records().find(|r| {
        r.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    });
    let record = free.unwrap_or_else(|| {
        let fresh = Box::leak(Box::new(Record {
            epoch: Epoch(AtomicU64::new(0)),
            launches: AtomicU64::new(0),
            taken: AtomicBool::new(true),
            next: AtomicPtr::new(std::ptr::null_mut()),
        }));
        let mut head = RECORDS.load(Ordering::Acquire);
        loop {
            fresh.next.store(head, Ordering::Relaxed);
            let new: *mut Record = fresh;
            match RECORDS.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break fresh,
                Err(seen) => head = seen,
            }
        }
    });
    MINE.with(|mine| mine.set(record));
    on_thread_exit(record);
    record
}

/// Arranges that the record is free for another thread once this one has ended. A pthread key
/// instead of a destructor of the thread local: hooks may run in later destructors.
fn on_thread_exit(record: &'static Record) {
    static KEY: std::sync::OnceLock<Option<libc::pthread_key_t>> = std::sync::OnceLock::new();
    unsafe extern "C" fn give_back(record: *mut libc::c_void) {
        MINE.with(|mine| mine.set(std::ptr::null()));
        // SAFETY: the value was set below to a leaked record.
        let record = unsafe { &*record.cast::<Record>() };
        record.taken.store(false, Ordering::Release);
    }
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is a live local, the destructor takes what pthread_setspecific stored.
        (unsafe { libc::pthread_key_create(&mut key, Some(give_back)) } == 0).then_some(key)
    });
    if let Some(key) = key {
        let value: *const Record = record;
        // SAFETY: the key exists; a failure only leaks the record.
        unsafe { libc::pthread_setspecific(*key, value.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    /// The point of it all: while the world is stopped nobody is inside. (`tests/model` tries every order of the
    /// two sides; here it is the processor's.)
    #[test]
    fn nobody_is_inside_a_stopped_world() {
        static INSIDE: AtomicU32 = AtomicU32::new(0);
        static QUIT: AtomicBool = AtomicBool::new(false);
        let workers: Vec<_> = (0..3)
            .map(|_| {
                std::thread::spawn(|| {
                    while !QUIT.load(Ordering::Relaxed) {
                        let section = enter();
                        INSIDE.fetch_add(1, Ordering::SeqCst);
                        section.count_launch();
                        std::hint::spin_loop();
                        INSIDE.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            // Stopping a world in which nobody moves would show nothing.
            let before = launches();
            while launches() == before {
                std::thread::yield_now();
            }
            let Some(stopped) = stop(Duration::from_secs(20)) else { panic!("never drained") };
            for _ in 0..50 {
                assert_eq!(INSIDE.load(Ordering::SeqCst), 0);
            }
            drop(stopped);
        }
        QUIT.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().expect("worker");
        }
        assert!(launches() > 0);

        // A section that is never left: stopping gives up in bounded time and the world runs on.
        let section = enter();
        let waited = std::thread::spawn(|| stop(Duration::from_millis(20)).is_none());
        assert!(waited.join().expect("stopper"), "must give up");
        drop(section);
        drop(enter());
    }
}
