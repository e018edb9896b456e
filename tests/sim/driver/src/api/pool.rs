//! Memory pools.

use super::{device, out};
use crate::abi::{CUdevice, Handle, Location, ON_DEVICE, Outcome, PoolProps, code};
use crate::entry::api;
use crate::pools;
use std::ffi::c_void;

const RELEASE_THRESHOLD: i32 = 4;
const RESERVED: i32 = 5;
const RESERVED_HIGH: i32 = 6;
const USED: i32 = 7;
const USED_HIGH: i32 = 8;

api! {
    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, dev: CUdevice) {
        let dev = device(dev)?;
        out(pool, pools::default(dev))
    }

    fn cuDeviceGetMemPool(pool: *mut Handle, dev: CUdevice) {
        let dev = device(dev)?;
        out(pool, pools::current(dev))
    }

    fn cuDeviceSetMemPool(dev: CUdevice, pool: Handle) {
        let dev = device(dev)?;
        pools::set_current(dev, pool)
    }

    fn cuMemPoolCreate(pool: *mut Handle, props: *const PoolProps) {
        // SAFETY: the program passes a structure or null.
        let props = unsafe { props.as_ref() }.ok_or(code::INVALID_VALUE)?;
        let dev = device(props.location.id)?;
        out(pool, pools::create(dev))
    }

    fn cuMemPoolDestroy(pool: Handle) {
        pools::destroy(pool)
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        pools::find(pool).map(drop)
    }

    fn cuMemPoolSetAttribute(pool: Handle, which: i32, value: *mut c_void) {
        pools::find(pool)?;
        if value.is_null() {
            return Err(code::INVALID_VALUE);
        }
        match which {
            // Whether freed memory is used again is of no consequence here.
            1..=3 => Ok(()),
            RELEASE_THRESHOLD => {
                // SAFETY: this attribute is a 64-bit number.
                let threshold = unsafe { value.cast::<u64>().read() };
                pools::change(pool as usize, |p| p.threshold = threshold);
                Ok(())
            }
            RESERVED_HIGH | USED_HIGH => {
                // SAFETY: as above.
                if unsafe { value.cast::<u64>().read() } != 0 {
                    return Err(code::INVALID_VALUE);
                }
                pools::change(pool as usize, |p| p.high = p.used);
                Ok(())
            }
            _ => Err(code::INVALID_VALUE),
        }
    }

    fn cuMemPoolGetAttribute(pool: Handle, which: i32, value: *mut c_void) {
        let found = pools::find(pool)?;
        match which {
            1..=3 => out(value.cast::<i32>(), 1),
            RELEASE_THRESHOLD => out(value.cast::<u64>(), found.threshold),
            RESERVED | USED => out(value.cast::<u64>(), found.used),
            RESERVED_HIGH | USED_HIGH => out(value.cast::<u64>(), found.high),
            _ => Err(code::INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAccess(pool: Handle, _map: *const c_void, _count: usize) {
        pools::find(pool).map(drop)
    }

    fn cuMemPoolGetAccess(flags: *mut u64, pool: Handle, _location: *const c_void) {
        pools::find(pool)?;
        out(flags, 3)
    }

    fn cuMemGetDefaultMemPool(pool: *mut Handle, location: *const Location, kind: u32) {
        let dev = of(location, kind)?;
        out(pool, pools::default(dev))
    }

    fn cuMemGetMemPool(pool: *mut Handle, location: *const Location, kind: u32) {
        let dev = of(location, kind)?;
        out(pool, pools::current(dev))
    }

    fn cuMemSetMemPool(location: *const Location, kind: u32, pool: Handle) {
        pools::set_current(of(location, kind)?, pool)
    }
}

/// The device a location means. Only pools of pinned device memory exist.
fn of(location: *const Location, kind: u32) -> Outcome<usize> {
    const PINNED: u32 = 1;
    // SAFETY: the program passes a structure or null.
    let location = unsafe { location.as_ref() }.ok_or(code::INVALID_VALUE)?;
    if kind != PINNED || location.kind != ON_DEVICE {
        return Err(code::NOT_SUPPORTED);
    }
    device(location.id)
}
