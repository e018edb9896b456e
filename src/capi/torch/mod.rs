//! The functions that PyTorch's `CUDAPluggableAllocator` calls.
//!
//! Owns: the order of frees against streams and pools, and the memory fraction. Allocation and
//! free are stream-ordered, which is what PyTorch expects: memory freed on a stream may be given
//! out on it at once, elsewhere only when the stream has passed. Streams that `record_stream`
//! named have to pass as well.
//!
//! The types are those of the Itanium C++ ABI on x86-64 and AArch64: a pair of two 64-bit numbers
//! is two registers, a `std::function` by value is a pointer to an object of the caller's, which
//! is never looked at.
#![allow(missing_docs, reason = "docs/pytorch.md documents them")]

mod fraction;
mod place;
mod pools;

use super::{gate, instance};
use crate::config;
use crate::driver::{Api, CUdeviceptr, CUresult, Handle, code};
use crate::registry::{contexts, streams};
use crate::residency::alloc::{self, Order, Request};
use crate::residency::{control, engine, query};
use parking_lot::Mutex;
use place::Place;
use pools::{Held, PoolId};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};

/// `c10::cuda::MempoolId_t`, a `std::pair<uint64_t, uint64_t>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MempoolId(u64, u64);

/// Streams that `record_stream` named for an allocation, as slot bits, until it is freed.
static RECORDED: Mutex<BTreeMap<CUdeviceptr, u64>> = Mutex::new(BTreeMap::new());

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_malloc(
    size: usize,
    device: c_int,
    stream: Handle,
) -> *mut c_void {
    if size == 0 {
        return std::ptr::null_mut();
    }
    let made = malloc(size, device, stream).inspect_err(|&e| refused(size, device, e));
    made.map_or(std::ptr::null_mut(), |ptr| ptr as *mut c_void)
}

/// PyTorch does not look at the answer, so its next kernel would fail with an illegal address
/// and nobody would know why.
fn refused(size: usize, device: c_int, e: CUresult) {
    gate::guarded("coldpress_torch_malloc", (), || {
        crate::say::line(&format!(
            "PyTorch asked for {size} bytes on device {device} and gets none (driver code {e}); \
             what uses that tensor will fail"
        ));
    });
}

fn malloc(size: usize, device: c_int, stream: Handle) -> Result<CUdeviceptr, CUresult> {
    let place = Place::enter(device)?;
    let mut taken = false;
    let managed = gate::guarded("coldpress_torch_malloc", Some(Err(code::UNKNOWN)), || {
        taken = fraction::take(device, size as u64, place.api());
        if !taken {
            return Some(Err(code::OUT_OF_MEMORY));
        }
        let slot = streams::slot_of(stream, false);
        pools::reuse(device, size as u64, slot).map(Ok).or_else(|| fresh(size, slot))
    });
    // Not guarded: where nothing is managed this is the program's own call.
    let made = managed.unwrap_or_else(|| plain(size, place.api()));
    gate::guarded("coldpress_torch_malloc", (), || match made {
        Ok(ptr) => pools::adopt(device, ptr),
        Err(_) if taken => fraction::give(device, size as u64),
        // What was refused was never counted.
        Err(_) => {}
    });
    made
}

/// Managed memory that no pool holds; `None` where nothing is managed.
fn fresh(size: usize, slot: u8) -> Option<Result<CUdeviceptr, CUresult>> {
    if !instance::active() {
        instance::say_inactive();
        return None;
    }
    if config::get().disabled.is_some() || engine::frozen() {
        return None;
    }
    let context = contexts::current()?;
    let device = engine::device_for(context)?;
    Some(alloc::alloc(device, Request { size: size as u64, slot: Some(slot), context }))
}

fn plain(size: usize, api: &Api) -> Result<CUdeviceptr, CUresult> {
    let mut ptr = 0;
    // SAFETY: `ptr` is a live local.
    match unsafe { (api.cuMemAlloc_v2)(&mut ptr, size) } {
        code::SUCCESS => Ok(ptr),
        e => Err(e),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_free(
    ptr: *mut c_void,
    size: usize,
    device: c_int,
    stream: Handle,
) {
    if ptr.is_null() {
        return;
    }
    let unmanaged = gate::guarded("coldpress_torch_free", None, || {
        fraction::give(device, size as u64);
        let ptr = ptr as CUdeviceptr;
        let slot = streams::slot_of(stream, false);
        let recorded = RECORDED.lock().remove(&ptr).unwrap_or(0);
        let held = Held { ptr, size: size as u64, slot, after: 1 << slot | recorded };
        pools::keep(device, held).and_then(free)
    });
    if let Some(held) = unmanaged {
        free_plain(device, held);
    }
}

/// Frees managed memory; other memory is handed back.
fn free(held: Held) -> Option<Held> {
    if !query::covers(held.ptr) {
        return Some(held);
    }
    match alloc::begin_free(held.ptr) {
        Ok(freed) => alloc::finish_free(freed, Order::After(held.after)),
        // PyTorch has no way to hear of it.
        Err(_) => crate::say::once(
            "torch-free",
            &format!("PyTorch freed {:#x}, which is not a live allocation", held.ptr),
        ),
    }
    None
}

/// Frees memory of the driver's, outside the guard. At exit the driver may be gone already, and
/// then so is its memory.
fn free_plain(device: c_int, held: Held) {
    if let Ok(place) = Place::enter(device) {
        // SAFETY: the driver checks the address; it waits for the device by itself.
        unsafe { (place.api().cuMemFree_v2)(held.ptr) };
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_init(_device_count: c_int) {
    // Everything starts with the first allocation; what can be said now is who will not be asked.
    gate::guarded("coldpress_torch_init", (), || {
        if !instance::active() {
            instance::say_inactive();
        }
    });
}

/// `torch.cuda.empty_cache()`: memory that is held ready goes back to the driver.
#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_reset() {
    gate::guarded("coldpress_torch_reset", (), control::trim);
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_memory_fraction(share: f64, device: c_int) {
    gate::guarded("coldpress_torch_memory_fraction", (), || fraction::set(device, share));
}

/// The allocation that `ptr` is in: its first byte, and its size in `*size`.
///
/// # Safety
/// `size` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_torch_base_alloc(
    ptr: *mut c_void,
    size: *mut usize,
) -> *mut c_void {
    let (base, bytes) =
        gate::guarded("coldpress_torch_base_alloc", (ptr as CUdeviceptr, 0), || {
            if let Some(found) = query::find(ptr as CUdeviceptr) {
                return (found.base, found.allocation.size as usize);
            }
            let (mut base, mut bytes) = (ptr as CUdeviceptr, 0);
            if let Some(api) = instance::program() {
                // SAFETY: both are live locals, which a failing call leaves as they are.
                unsafe { (api.cuMemGetAddressRange_v2)(&mut base, &mut bytes, ptr as CUdeviceptr) };
            }
            (base, bytes)
        });
    if !size.is_null() {
        // SAFETY: not null, and the caller's to write.
        unsafe { *size = bytes };
    }
    base as *mut c_void
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_record_stream(ptr: *mut c_void, stream: Handle) {
    gate::guarded("coldpress_torch_record_stream", (), || {
        // A view records its storage's first byte or any other.
        let Some(found) = query::find(ptr as CUdeviceptr) else { return };
        let bit = 1 << streams::slot_of(stream, false);
        *RECORDED.lock().entry(found.base).or_insert(0) |= bit;
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_begin_pool(device: c_int, id: MempoolId, _filter: *const c_void) {
    gate::guarded("coldpress_torch_begin_pool", (), || {
        pools::begin(PoolId { device, id: (id.0, id.1) })
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_end_pool(device: c_int, id: MempoolId) {
    gate::guarded("coldpress_torch_end_pool", (), || {
        pools::end(PoolId { device, id: (id.0, id.1) })
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_torch_release_pool(device: c_int, id: MempoolId) {
    let unmanaged = gate::guarded("coldpress_torch_release_pool", Vec::new(), || {
        let kept = pools::release(PoolId { device, id: (id.0, id.1) });
        kept.into_iter().filter_map(free).collect()
    });
    for held in unmanaged {
        free_plain(device, held);
    }
}
