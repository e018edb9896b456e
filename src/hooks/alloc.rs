//! Allocating and freeing without a stream.

use super::{answer, managed, real, within};
use crate::config::{self, FreeSync, Mode};
use crate::driver::{Api, CUdeviceptr, CUresult, code};
use crate::hook;
use crate::intercept::guard;
use crate::registry::{contexts, functions};
use crate::residency::alloc::{self, Order, Request};
use crate::residency::query;
use crate::stats;
use std::sync::OnceLock;

/// Rows of a pitched allocation start at multiples of this, as textures need.
const PITCH: usize = 512;

hook! {
    fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytes: usize) |api| {
        match managed() {
            Ok(Some((context, device))) if !dptr.is_null() => {
                let request = Request { size: bytes as u64, slot: None, context };
                // SAFETY: not null, and the program wants its answer there.
                guard::real(|| unsafe { give(dptr, alloc::alloc(device, request)) })
            }
            Err(e) => e,
            Ok(_) => observed(bytes, real!(api.cuMemAlloc_v2(dptr, bytes))),
        }
    }

    fn cuMemAllocPitch_v2(
        dptr: *mut CUdeviceptr,
        pitch: *mut usize,
        width: usize,
        height: usize,
        element: u32,
    ) |api| {
        let (context, device) = match managed() {
            Ok(Some(place)) if !dptr.is_null() && !pitch.is_null() => place,
            Ok(_) => return real!(api.cuMemAllocPitch_v2(dptr, pitch, width, height, element)),
            Err(e) => return e,
        };
        let Some((row, size)) = pitched(width, height, element) else {
            return code::INVALID_VALUE;
        };
        let request = Request { size: size as u64, slot: None, context };
        // SAFETY: neither is null, and the program wants its answers there.
        guard::real(|| unsafe {
            let result = give(dptr, alloc::alloc(device, request));
            if result == code::SUCCESS {
                answer(pitch, row);
            }
            result
        })
    }

    fn cuMemFree_v2(dptr: CUdeviceptr) |api| {
        if !query::covers(dptr) {
            let bytes = observed_size(api, dptr);
            let result = real!(api.cuMemFree_v2(dptr));
            if let (Some(bytes), code::SUCCESS) = (bytes, result) {
                stats::page().frees.add(1);
                stats::page().logical.sub(bytes as u64);
            }
            return result;
        }
        // The driver frees nothing without a context, whatever the pointer.
        match contexts::is_current() {
            Ok(true) => guard::served(|| free(api, dptr).err().unwrap_or(code::SUCCESS)),
            Ok(false) => code::INVALID_CONTEXT,
            Err(e) => e,
        }
    }
}

/// Bytes of a row and of the whole; `None` for what the driver refuses.
fn pitched(width: usize, height: usize, element: u32) -> Option<(usize, usize)> {
    if !matches!(element, 4 | 8 | 16) {
        return None;
    }
    let row = width.checked_next_multiple_of(PITCH)?;
    let size = row.checked_mul(height)?;
    (size > 0).then_some((row, size))
}

/// Hands a new allocation to the program.
///
/// # Safety
/// `to` may be written.
pub(super) unsafe fn give(to: *mut CUdeviceptr, made: Result<CUdeviceptr, CUresult>) -> CUresult {
    match made {
        Ok(ptr) => {
            // SAFETY: the caller's promise.
            unsafe { answer(to, ptr) };
            code::SUCCESS
        }
        Err(e) => e,
    }
}

/// Use sets that a free adds to what was stamped: all, once anything went unstamped.
pub(super) fn unstamped() -> u64 {
    if functions::unknown_seen() { u64::MAX } else { 0 }
}

/// The driver's own free returns when the device has finished; programs rely on it
/// (`cuMemcpyDtoHAsync`, free, read), so this one waits too unless a framework is known not to.
/// It waits first: a free that could not wait has not happened, and the program may ask again.
fn free(api: &Api, ptr: CUdeviceptr) -> Result<(), CUresult> {
    let known = if waits() { query::find(ptr).filter(|found| found.base == ptr) } else { None };
    let order = match known {
        Some(found) if !found.allocation.stream_ordered => {
            match wait(api, found.allocation.ctx) {
                code::SUCCESS => Order::Synced,
                // While a stream is captured nobody may wait; the driver frees all the same.
                code::CAPTURE_FIRST..=code::CAPTURE_LAST => Order::After(u64::MAX),
                failed => return Err(failed),
            }
        }
        // The call names no stream, and a kernel may be using the memory by an address that it has
        // loaded, which nobody stamped: any stream counts as a user. `off` trusts the stamps.
        _ if config::get().free_sync == FreeSync::Off => Order::After(unstamped()),
        _ => Order::After(u64::MAX),
    };
    let freed = alloc::begin_free(ptr)?;
    guard::decided(code::SUCCESS);
    alloc::finish_free(freed, order);
    Ok(())
}

/// Waits for the device of a context.
fn wait(api: &Api, ctx: usize) -> CUresult {
    // SAFETY: no arguments.
    within(ctx, || unsafe { (api.cuCtxSynchronize)() }).unwrap_or_else(|e| e)
}

fn waits() -> bool {
    static AUTO: OnceLock<bool> = OnceLock::new();
    match config::get().free_sync {
        FreeSync::On => true,
        FreeSync::Off => false,
        FreeSync::Auto => *AUTO.get_or_init(|| {
            let is = |name, value| std::env::var_os(name).is_some_and(|v| v == value);
            // Both frameworks order the reuse of their buffers themselves in these modes.
            !is("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
                && !is("XLA_PYTHON_CLIENT_ALLOCATOR", "platform")
        }),
    }
}

/// `mode:trace` leaves allocations with the driver and counts them.
fn observed(bytes: usize, result: CUresult) -> CUresult {
    if result == code::SUCCESS && config::get().mode == Mode::Trace {
        stats::page().allocations.add(1);
        stats::page().logical.add(bytes as u64);
    }
    result
}

/// The size of an allocation of the driver's, where it is counted.
fn observed_size(api: &Api, ptr: CUdeviceptr) -> Option<usize> {
    if config::get().mode != Mode::Trace {
        return None;
    }
    let (mut base, mut bytes) = (0, 0);
    // SAFETY: both are live locals.
    let known = unsafe { (api.cuMemGetAddressRange_v2)(&mut base, &mut bytes, ptr) };
    (known == code::SUCCESS && base == ptr).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_the_driver_makes_them() {
        assert_eq!(pitched(1, 3, 4), Some((512, 1536)));
        assert_eq!(pitched(512, 3, 8), Some((512, 1536)));
        assert_eq!(pitched(513, 2, 16), Some((1024, 2048)));
        assert_eq!(pitched(0, 2, 4), None);
        assert_eq!(pitched(2, 0, 4), None);
        assert_eq!(pitched(2, 2, 3), None);
        assert_eq!(pitched(usize::MAX, 2, 4), None);
        assert_eq!(pitched(1 << 40, 1 << 40, 4), None);
    }
}
