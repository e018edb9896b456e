//! The tag that new allocations of this thread get.
//!
//! Owns: one number per thread. Names and nesting belong to the C API.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// No tag.
pub const NONE: u32 = 0;

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(NONE) };
}

/// The tag of this thread's next allocations.
pub fn current() -> u32 {
    CURRENT.with(Cell::get)
}

/// Sets it; the former one is returned.
pub fn set(tag: u32) -> u32 {
    CURRENT.with(|c| c.replace(tag))
}
