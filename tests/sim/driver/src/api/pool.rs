//! Memory pools.

use super::{device, out};
use crate::abi::{CUdevice, CUdeviceptr, Handle, PoolProps, code};
use crate::context;
use crate::entry::api;
use crate::memory;
use std::ffi::c_void;

const RELEASE_THRESHOLD: i32 = 4;

api! {
    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, dev: CUdevice) {
        let dev = device(dev)?;
        out(pool, memory::default_pool(dev))
    }

    fn cuDeviceGetMemPool(pool: *mut Handle, dev: CUdevice) {
        let dev = device(dev)?;
        out(pool, memory::current_pool(dev))
    }

    fn cuDeviceSetMemPool(dev: CUdevice, pool: Handle) {
        let dev = device(dev)?;
        memory::set_current_pool(dev, pool)
    }

    fn cuMemPoolCreate(pool: *mut Handle, props: *const PoolProps) {
        // SAFETY: the program passes a structure or null.
        let props = unsafe { props.as_ref() }.ok_or(code::INVALID_VALUE)?;
        let dev = device(props.location.id)?;
        out(pool, memory::create_pool(dev))
    }

    fn cuMemPoolDestroy(pool: Handle) {
        memory::destroy_pool(pool)
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        memory::find_pool(pool).map(drop)
    }

    fn cuMemPoolSetAttribute(pool: Handle, which: i32, value: *mut c_void) {
        memory::find_pool(pool)?;
        if value.is_null() {
            return Err(code::INVALID_VALUE);
        }
        if which == RELEASE_THRESHOLD {
            // SAFETY: this attribute is a 64-bit number.
            memory::set_threshold(pool, unsafe { value.cast::<u64>().read() })?;
        }
        Ok(())
    }

    fn cuMemPoolGetAttribute(pool: Handle, which: i32, value: *mut c_void) {
        let found = memory::find_pool(pool)?;
        if value.is_null() {
            return Err(code::INVALID_VALUE);
        }
        match which {
            1..=3 => out(value.cast::<i32>(), 1),
            RELEASE_THRESHOLD => out(value.cast::<u64>(), found.threshold),
            5..=8 => out(value.cast::<u64>(), 0),
            _ => Err(code::INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAccess(pool: Handle, _map: *const c_void, _count: usize) {
        memory::find_pool(pool).map(drop)
    }

    fn cuMemPoolGetAccess(flags: *mut u64, pool: Handle, _location: *const c_void) {
        memory::find_pool(pool)?;
        out(flags, 3)
    }

    fn cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz(on: Handle, ptr: CUdeviceptr, _len: usize, _flags: u32) {
        crate::stream::find(on)?;
        memory::containing(ptr).map(drop).ok_or(code::INVALID_VALUE)
    }

    fn cuMemAdvise(ptr: CUdeviceptr, _bytes: usize, _advice: i32, _dev: CUdevice) {
        context::current()?;
        managed(ptr)
    }

    fn cuMemPrefetchAsync | cuMemPrefetchAsync_ptsz(ptr: CUdeviceptr, _bytes: usize, _dev: CUdevice, on: Handle) {
        crate::stream::find(on)?;
        managed(ptr)
    }
}

fn managed(ptr: CUdeviceptr) -> Result<(), u32> {
    let found = memory::containing(ptr).filter(|a| a.kind == memory::Kind::Managed);
    found.map(drop).ok_or(code::INVALID_VALUE)
}
