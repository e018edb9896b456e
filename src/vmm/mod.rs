//! Physical memory: handles of the driver's virtual memory management, and the pool of ready ones.
//!
//! Owns: how handles are made, mapped and given back. Never: which block they serve, or the
//! accounting under `limit` (see `residency::memory`). Nothing here takes a lock.

mod pool;

pub use pool::{CLASSES, Pool, split};

use crate::driver::{self, CUdeviceptr, CUresult, code, types};

/// A physical handle and how many granules it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The driver's handle.
    pub raw: u64,
    /// Its size in granules, one of [`CLASSES`].
    pub granules: u32,
}

fn api() -> Result<&'static driver::Api, CUresult> {
    driver::api().ok_or(code::NOT_INITIALIZED)
}

fn check(result: CUresult) -> Result<(), CUresult> {
    if result == code::SUCCESS { Ok(()) } else { Err(result) }
}

/// What memory of `device` looks like to the driver.
fn properties(device: u8) -> types::CUmemAllocationProp {
    types::CUmemAllocationProp::pinned_on(i32::from(device))
}

/// The driver's minimum granularity on `device`, in bytes.
pub fn granularity(device: u8) -> Result<usize, CUresult> {
    let mut bytes = 0usize;
    let prop = properties(device);
    // SAFETY: both pointers are to live locals; the driver writes one size.
    check(unsafe { (api()?.cuMemGetAllocationGranularity)(&mut bytes, &prop, 0) })?;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err(code::NOT_SUPPORTED) }
}

/// Reserves `bytes` of addresses, near `hint` if the driver likes.
pub fn reserve(bytes: usize, align: usize, hint: u64) -> Result<CUdeviceptr, CUresult> {
    let mut ptr = 0;
    // SAFETY: `ptr` is a live local; a reservation maps nothing.
    check(unsafe { (api()?.cuMemAddressReserve)(&mut ptr, bytes, align, hint, 0) })?;
    Ok(ptr)
}

/// Creates one handle of `bytes` on `device`.
pub fn create(device: u8, bytes: usize) -> Result<u64, CUresult> {
    let mut raw = 0;
    let prop = properties(device);
    // SAFETY: both pointers are to live locals.
    check(unsafe { (api()?.cuMemCreate)(&mut raw, bytes, &prop, 0) })?;
    Ok(raw)
}

/// Gives a handle that is mapped nowhere back to the driver.
pub fn release(raw: u64) -> Result<(), CUresult> {
    // SAFETY: the caller owns the handle and drops its last use here.
    check(unsafe { (api()?.cuMemRelease)(raw) })
}

/// Maps a whole handle at `ptr`; access comes separately.
pub fn map(ptr: CUdeviceptr, bytes: usize, raw: u64) -> Result<(), CUresult> {
    // SAFETY: `ptr` lies in our reservation and the caller owns the unmapped range there.
    check(unsafe { (api()?.cuMemMap)(ptr, bytes, 0, raw, 0) })
}

/// Removes the mappings of a range made of whole handles.
pub fn unmap(ptr: CUdeviceptr, bytes: usize) -> Result<(), CUresult> {
    // SAFETY: the caller has proved that nothing can reach the range any more.
    check(unsafe { (api()?.cuMemUnmap)(ptr, bytes) })
}

/// Lets the devices in the bit set `devices` read and write a mapped range.
pub fn set_access(ptr: CUdeviceptr, bytes: usize, devices: u32) -> Result<(), CUresult> {
    let mut descs = [types::CUmemAccessDesc::read_write(0); 32];
    let mut n = 0;
    for device in (0..32).filter(|d| devices & 1 << d != 0) {
        descs[n] = types::CUmemAccessDesc::read_write(device);
        n += 1;
    }
    // SAFETY: `descs` is a live local of at least `n` entries.
    check(unsafe { (api()?.cuMemSetAccess)(ptr, bytes, descs.as_ptr(), n) })
}
