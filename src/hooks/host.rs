//! Pinned and registered host memory: the device reads it, so it can hold addresses.

use super::{latched, real};
use crate::driver::{CUresult, Handle, code};
use crate::hook;
use crate::registry::host;
use std::ffi::c_void;

/// CU_MEMHOSTREGISTER_IOMEMORY: registers of some other device, which nobody may just read.
const IO_MEMORY: u32 = 4;

hook! {
    fn cuMemAllocHost_v2(ptr: *mut *mut c_void, bytes: usize) |api| {
        let result = real!(api.cuMemAllocHost_v2(ptr, bytes));
        // SAFETY: the program's own pointer, which the driver has accepted.
        unsafe { allocated(ptr, bytes, result) }
    }

    fn cuMemHostAlloc(ptr: *mut *mut c_void, bytes: usize, flags: u32) |api| {
        let result = real!(api.cuMemHostAlloc(ptr, bytes, flags));
        // SAFETY: as above.
        unsafe { allocated(ptr, bytes, result) }
    }

    fn cuMemFreeHost(ptr: *mut c_void) |api| {
        going(ptr, || real!(api.cuMemFreeHost(ptr)))
    }

    fn cuMemHostRegister(ptr: *mut c_void, bytes: usize, flags: u32) |api| {
        register(ptr, bytes, flags, || real!(api.cuMemHostRegister(ptr, bytes, flags)))
    }

    fn cuMemHostRegister_v2(ptr: *mut c_void, bytes: usize, flags: u32) |api| {
        register(ptr, bytes, flags, || real!(api.cuMemHostRegister_v2(ptr, bytes, flags)))
    }

    fn cuMemHostUnregister(ptr: *mut c_void) |api| {
        going(ptr, || real!(api.cuMemHostUnregister(ptr)))
    }
}

/// # Safety
/// After SUCCESS `ptr` points to the address of `bytes` bytes.
unsafe fn allocated(ptr: *const Handle, bytes: usize, result: CUresult) -> CUresult {
    if result == code::SUCCESS {
        // SAFETY: the caller's promise.
        host::add(unsafe { *ptr } as usize, bytes);
    }
    result
}

fn register(
    ptr: *mut c_void,
    bytes: usize,
    flags: u32,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    if flags & IO_MEMORY != 0 {
        return latched("cuMemHostRegister of I/O memory", call);
    }
    let result = call();
    if result == code::SUCCESS {
        host::add(ptr as usize, bytes);
    }
    result
}

/// Forgotten before the call: afterwards the address may be another thread's new range.
fn going(ptr: *mut c_void, call: impl FnOnce() -> CUresult) -> CUresult {
    let bytes = host::remove(ptr as usize);
    let result = call();
    if let (Some(bytes), true) = (bytes, result != code::SUCCESS) {
        host::add(ptr as usize, bytes);
        // Whether the device knew it is forgotten: it may have.
        (0..bytes).step_by(4096).for_each(|at| host::expose((ptr as usize + at) as u64));
    }
    result
}
