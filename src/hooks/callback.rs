//! Host functions in a stream. They run on a thread of the driver's while the stream waits for
//! them, and may not call CUDA. One that does all the same must not find itself restoring or
//! evicting: either would wait for the stream that waits for it.

use super::real;
use crate::driver::{CUresult, Handle, code};
use crate::hook;
use crate::intercept::guard;
use crate::residency::engine;
use std::ffi::c_void;

/// A function of the program's and what it is called with.
#[derive(Clone, Copy)]
struct Call {
    function: usize,
    data: *mut c_void,
}

hook! {
    fn cuLaunchHostFunc(stream: Handle, f: *mut c_void, data: *mut c_void) |api| {
        marked(f, data, |f, data| real!(api.cuLaunchHostFunc(stream, f, data)))
    }

    fn cuLaunchHostFunc_ptsz(stream: Handle, f: *mut c_void, data: *mut c_void) |api| {
        marked(f, data, |f, data| real!(api.cuLaunchHostFunc_ptsz(stream, f, data)))
    }

    fn cuLaunchHostFunc_v2(stream: Handle, f: *mut c_void, data: *mut c_void, mode: u32) |api| {
        marked(f, data, |f, data| real!(api.cuLaunchHostFunc_v2(stream, f, data, mode)))
    }

    fn cuLaunchHostFunc_v2_ptsz(
        stream: Handle, f: *mut c_void, data: *mut c_void, mode: u32,
    ) |api| {
        marked(f, data, |f, data| real!(api.cuLaunchHostFunc_v2_ptsz(stream, f, data, mode)))
    }

    fn cuStreamAddCallback(
        stream: Handle, f: *mut c_void, data: *mut c_void, flags: u32,
    ) |api| {
        let queue = |f, data| real!(api.cuStreamAddCallback(stream, f, data, flags));
        wrapped(callback as *mut c_void, f, data, queue)
    }

    fn cuStreamAddCallback_ptsz(
        stream: Handle, f: *mut c_void, data: *mut c_void, flags: u32,
    ) |api| {
        let queue = |f, data| real!(api.cuStreamAddCallback_ptsz(stream, f, data, flags));
        wrapped(callback as *mut c_void, f, data, queue)
    }
}

fn marked(
    f: *mut c_void,
    data: *mut c_void,
    queue: impl FnOnce(*mut c_void, *mut c_void) -> CUresult,
) -> CUresult {
    wrapped(host_function as *mut c_void, f, data, queue)
}

/// Queues `ours`, which calls the program's function marked as what it is.
fn wrapped(
    ours: *mut c_void,
    f: *mut c_void,
    data: *mut c_void,
    queue: impl FnOnce(*mut c_void, *mut c_void) -> CUresult,
) -> CUresult {
    // Nothing is restored or evicted any more; and a graph may call its function many times.
    if f.is_null() || engine::latched() {
        return queue(f, data);
    }
    let call = Box::into_raw(Box::new(Call { function: f as usize, data }));
    let result = queue(ours, call.cast());
    if result != code::SUCCESS {
        // SAFETY: made above; what was refused is never called.
        drop(unsafe { Box::from_raw(call) });
    }
    result
}

/// Takes what `wrapped` made. A graph, which may call it again, can only have it where another
/// thread began a capture of the stream meanwhile; that latches first, so then it is kept.
unsafe fn taken(call: *mut c_void) -> Call {
    let call = call.cast::<Call>();
    if engine::latched() {
        // SAFETY: made by `wrapped`, and freed only below.
        return unsafe { *call };
    }
    // SAFETY: made by `wrapped`; the driver calls what is in a stream once.
    *unsafe { Box::from_raw(call) }
}

unsafe extern "C" fn host_function(call: *mut c_void) {
    // SAFETY: the driver gives back what it was given.
    let call = unsafe { taken(call) };
    // SAFETY: the program gave a function of this type.
    let f: unsafe extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(call.function) };
    // SAFETY: with the program's own argument.
    guard::callback(|| unsafe { f(call.data) });
}

unsafe extern "C" fn callback(stream: Handle, status: CUresult, call: *mut c_void) {
    // SAFETY: the driver gives back what it was given.
    let call = unsafe { taken(call) };
    type Old = unsafe extern "C" fn(Handle, CUresult, *mut c_void);
    // SAFETY: the program gave a function of this type.
    let f: Old = unsafe { std::mem::transmute(call.function) };
    // SAFETY: with the program's own argument and the driver's own answers.
    guard::callback(|| unsafe { f(stream, status, call.data) });
}
