//! The one way from the C interface into the engine.
//!
//! Owns: what must hold before a call may look at managed memory, and that nothing unwinds into
//! the program. Never: what a call does.

use super::instance;
use super::status::{self, Failure, failure};
use crate::config;
use crate::intercept::{guard, lifecycle};
use crate::residency::query::{self, Found};
use crate::stats;
use std::ffi::c_int;

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

/// Runs `body`; a panic in it becomes `broken`. Driver calls inside lead straight to the driver.
/// A call from inside a driver call (a callback of the driver's) is `broken` too: this thread
/// may hold what the body would wait for.
pub fn guarded<R>(name: &'static str, broken: R, body: impl FnOnce() -> R) -> R {
    if guard::entered() || lifecycle::dead() {
        return broken;
    }
    guard::ours(name, broken, body)
}

/// As [`guarded`] for the functions that return a code.
pub fn call(name: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    let broken = if lifecycle::dead() {
        failure(status::ABSENT, format!("{name}: CUDA does not work in a forked child"))
    } else if guard::entered() {
        failure(status::BUSY, format!("{name}: called from inside a CUDA call"))
    } else {
        failure(status::DRIVER, format!("{name}: coldpress failed; stderr says more"))
    };
    status::finish(guarded(name, Err(broken), body))
}
