//! What each hooked call means: which memory it gives, takes, reads, writes or asks about.
//!
//! Owns: the shape of driver calls. Never: where a block is or how it moves (`residency`), or when
//! a hook may run at all (`intercept::guard`). One function per exported variant; the exports
//! refer to each by name, so a missing one does not compile.
//!
//! A hook that cannot say what its call reaches calls `control::latch`: everything is restored and
//! eviction is off before the call is made.

mod alloc;
mod async_alloc;
mod callback;
mod context;
mod copy;
mod extra;
mod host;
mod launch;
mod memset;
mod module;
mod query;
mod range;
mod stream;

pub use alloc::*;
pub use async_alloc::*;
pub use callback::*;
pub use context::*;
pub use copy::*;
pub use host::*;
pub use launch::*;
pub use memset::*;
pub use module::*;
pub use query::*;
pub use stream::*;

use crate::driver::{CUresult, code};
use crate::registry::contexts::{self, Context};
use crate::residency::engine::{self, Device};
use crate::residency::{control, in_context};

/// Makes the program's call, recorded by the guard.
macro_rules! real {
    ($api:ident.$name:ident($($arg:expr),* $(,)?)) => {
        $crate::intercept::guard::real(|| {
            // SAFETY: the program's own call with its own arguments.
            unsafe { ($api.$name)($($arg),*) }
        })
    };
}
use real;

/// The calling thread's context and its device, if new memory there is ours to give.
fn managed() -> Result<Option<(Context, &'static Device)>, CUresult> {
    if engine::frozen() {
        return Ok(None);
    }
    Ok(contexts::ask()?.and_then(|context| Some((context, engine::device_for(context)?))))
}

/// True while no allocation has ever been managed: then no operation can meet one.
#[inline]
fn idle() -> bool {
    engine::get().is_none()
}

/// Restores everything and turns eviction off for `what`, then makes the call.
fn latched(what: &str, call: impl FnOnce() -> CUresult) -> CUresult {
    match control::latch(what) {
        code::SUCCESS => call(),
        failed => failed,
    }
}

/// Runs `f` with `ctx` current on this thread, or says why that cannot be.
fn within<R>(ctx: usize, f: impl FnOnce() -> R) -> Result<R, CUresult> {
    if contexts::current().is_some_and(|c| c.handle == ctx) {
        return Ok(f());
    }
    in_context(ctx, |_| f())
}

/// Writes an answer where the program wants it, if it does.
///
/// # Safety
/// `to` is null or may be written.
unsafe fn answer<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the caller's promise; programs may pass what is not aligned.
        unsafe { to.write_unaligned(value) };
    }
}
