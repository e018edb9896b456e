//! The tag that new allocations of this thread get.
//!
//! Owns: one number per thread. Names and nesting belong to the C API.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// No tag.
pub const NONE: u32 = 0;

/// Set at the first tag of the process: most never use one.
static USED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(NONE) };
}

/// The tag of this thread's next allocations.
#[inline]
pub fn current() -> u32 {
    if USED.load(Ordering::Relaxed) { of_thread() } else { NONE }
}

/// Apart, or the compiler looks the thread's storage up before it knows whether it needs it.
#[cold]
#[inline(never)]
fn of_thread() -> u32 {
    CURRENT.with(Cell::get)
}

/// Sets it; the former one is returned.
pub fn set(tag: u32) -> u32 {
    USED.store(true, Ordering::Relaxed);
    CURRENT.with(|c| c.replace(tag))
}
