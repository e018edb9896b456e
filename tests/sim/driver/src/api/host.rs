//! Pinned host memory.

use super::out;
use crate::abi::{CUdeviceptr, code};
use crate::context;
use crate::entry::api;
use crate::memory;
use std::ffi::c_void;

api! {
    fn cuMemAllocHost_v2(ptr: *mut *mut c_void, bytes: usize) {
        let ctx = context::current()?;
        out(ptr, memory::host_allocate(&ctx, bytes, 0)? as *mut c_void)
    }

    fn cuMemHostAlloc(ptr: *mut *mut c_void, bytes: usize, flags: u32) {
        let ctx = context::current()?;
        if flags > 7 {
            return Err(code::INVALID_VALUE);
        }
        out(ptr, memory::host_allocate(&ctx, bytes, flags)? as *mut c_void)
    }

    fn cuMemFreeHost(ptr: *mut c_void) {
        let ctx = context::current()?;
        if ptr.is_null() {
            return Ok(());
        }
        // Copies that still read it must have ended, as with any free.
        ctx.synchronize()?;
        memory::host_end(ptr as usize, false)
    }

    fn cuMemHostRegister(ptr: *mut c_void, bytes: usize, flags: u32) {
        let ctx = context::current()?;
        memory::host_register(&ctx, ptr as usize, bytes, flags)
    }

    fn cuMemHostRegister_v2(ptr: *mut c_void, bytes: usize, flags: u32) {
        let ctx = context::current()?;
        memory::host_register(&ctx, ptr as usize, bytes, flags)
    }

    fn cuMemHostUnregister(ptr: *mut c_void) {
        context::current()?;
        memory::host_end(ptr as usize, true)
    }

    fn cuMemHostGetDevicePointer_v2(dev: *mut CUdeviceptr, ptr: *mut c_void, flags: u32) {
        context::current()?;
        memory::host_containing(ptr as usize).ok_or(code::INVALID_VALUE)?;
        if flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        out(dev, ptr as u64)
    }

    fn cuMemHostGetFlags(flags: *mut u32, ptr: *mut c_void) {
        context::current()?;
        let (_, host) = memory::host_containing(ptr as usize).ok_or(code::INVALID_VALUE)?;
        out(flags, host.flags)
    }
}
