//! Streams come and go; a destroyed one is let go of first.

use super::{idle, real};
use crate::driver::{Api, CUresult, Handle, code};
use crate::hook;
use crate::registry::{contexts, streams};
use crate::residency::{control, engine};

hook! {
    fn cuStreamCreate(stream: *mut Handle, flags: u32) |api| {
        let result = real!(api.cuStreamCreate(stream, flags));
        // SAFETY: the program's own pointer, which the driver has accepted.
        unsafe { created(stream, result) }
    }

    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: u32, priority: i32) |api| {
        let result = real!(api.cuStreamCreateWithPriority(stream, flags, priority));
        // SAFETY: as above.
        unsafe { created(stream, result) }
    }

    fn cuStreamDestroy(stream: Handle) |api| {
        destroying(api, stream, || real!(api.cuStreamDestroy(stream)))
    }

    fn cuStreamDestroy_v2(stream: Handle) |api| {
        destroying(api, stream, || real!(api.cuStreamDestroy_v2(stream)))
    }
}

/// # Safety
/// After SUCCESS `stream` points to a stream of the current context.
unsafe fn created(stream: *const Handle, result: CUresult) -> CUresult {
    if result == code::SUCCESS
        && let Some(context) = contexts::current()
    {
        // SAFETY: the caller's promise.
        streams::created(unsafe { *stream }, context.handle);
    }
    result
}

fn destroying(api: &Api, stream: Handle, call: impl FnOnce() -> CUresult) -> CUresult {
    // The default streams are nobody's to destroy; the driver says so.
    let Some(ctx) = streams::context_of(stream) else { return call() };
    // Fences have to stand behind its last work. (After the first capture there are none any more.)
    if !idle() && !engine::latched() && control::stream_going(ctx, stream as usize) != code::SUCCESS
    {
        // SAFETY: a live stream of the program's.
        unsafe { (api.cuStreamSynchronize)(stream) };
    }
    streams::destroying(stream);
    let result = call();
    if result != code::SUCCESS {
        streams::created(stream, ctx);
    }
    result
}
