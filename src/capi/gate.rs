//! The one way from the C interface into the engine.
//!
//! Owns: what must hold before a call may look at managed memory, and that nothing unwinds into
//! the program. Never: what a call does.

use super::instance;
use super::status::{self, Failure, failure};
use crate::config;
use crate::residency::engine;
use crate::residency::query::{self, Found};
use crate::stats;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// True while this instance manages the program's memory, or will with its first allocation.
pub fn managing() -> bool {
    instance::active()
        && config::get().disabled.is_none()
        && stats::page().passthrough.get().is_none()
}

/// The managed allocation at `ptr`; `None` where nothing is managed, so that nothing moves.
pub fn find(ptr: u64) -> Result<Option<Found>, Failure> {
    if !managing() {
        return Ok(None);
    }
    match query::find(ptr) {
        Some(found) => Ok(Some(found)),
        None => Err(failure(
            status::NOT_MANAGED,
            format!("{ptr:#x} is not in a live allocation that coldpress manages"),
        )),
    }
}

/// Runs `body`; a panic in it becomes `broken` and ends all management of new memory.
pub fn guarded<R>(broken: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        engine::freeze();
        broken
    })
}

/// As [`guarded`] for the functions that return a code.
pub fn call(body: impl FnOnce() -> Result<(), Failure>) -> std::ffi::c_int {
    status::finish(guarded(Err(failure(status::DRIVER, "coldpress failed; see stderr")), body))
}
