//! Allocation calls.

use super::out;
use crate::abi::{CUdeviceptr, Handle, code};
use crate::entry::api;
use crate::memory::{self, Kind};
use crate::work::Work;
use crate::{card, context, pools, settings, stream};

api! {
    fn cuMemAlloc_v2(ptr: *mut CUdeviceptr, bytes: usize) {
        let ctx = context::current()?;
        if ptr.is_null() {
            return Err(code::INVALID_VALUE);
        }
        out(ptr, memory::allocate(&ctx, bytes as u64, Kind::Plain)?)
    }

    fn cuMemAllocPitch_v2(ptr: *mut CUdeviceptr, pitch: *mut usize, width: usize, height: usize, element: u32) {
        let ctx = context::current()?;
        if ptr.is_null() || pitch.is_null() || ![4, 8, 16].contains(&element) {
            return Err(code::INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(512).ok_or(code::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(code::INVALID_VALUE)?;
        out(ptr, memory::allocate(&ctx, bytes as u64, Kind::Plain)?)?;
        out(pitch, row)
    }

    fn cuMemAllocManaged(ptr: *mut CUdeviceptr, bytes: usize, flags: u32) {
        let ctx = context::current()?;
        if ptr.is_null() || !(1..=2).contains(&flags) {
            return Err(code::INVALID_VALUE);
        }
        out(ptr, memory::allocate(&ctx, bytes as u64, Kind::Managed)?)
    }

    fn cuMemFree_v2(ptr: CUdeviceptr) {
        let ctx = context::current()?;
        if ptr == 0 {
            return Ok(());
        }
        let found = memory::containing(ptr).filter(|a| a.base == ptr).ok_or(code::INVALID_VALUE)?;
        if found.kind == Kind::Plain {
            // The driver waits for the device before it frees.
            ctx.synchronize()?;
            if let Ok(other) = context::find(found.ctx as Handle) {
                other.synchronize()?;
            }
        } else {
            ctx.synchronize()?;
        }
        memory::release(memory::take(ptr)?);
        Ok(())
    }

    fn cuMemAllocAsync | cuMemAllocAsync_ptsz(ptr: *mut CUdeviceptr, bytes: usize, on: Handle) {
        let stream = stream::find(on)?;
        let ctx = stream.context()?;
        if ptr.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let pool = pools::current(ctx.device);
        out(ptr, from_pool(&ctx, pool, bytes)?)
    }

    fn cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz(ptr: *mut CUdeviceptr, bytes: usize, pool: Handle, on: Handle) {
        let stream = stream::find(on)?;
        let ctx = stream.context()?;
        if ptr.is_null() || pools::find(pool)?.device != ctx.device {
            return Err(code::INVALID_VALUE);
        }
        out(ptr, from_pool(&ctx, pool, bytes)?)
    }

    fn cuMemFreeAsync | cuMemFreeAsync_ptsz(ptr: CUdeviceptr, on: Handle) {
        let stream = stream::find(on)?;
        let found = memory::containing(ptr).filter(|a| a.base == ptr && a.kind != Kind::Managed);
        found.ok_or(code::INVALID_VALUE)?;
        let allocation = memory::take(ptr)?;
        stream.submit(Some(Work::Free(allocation))).map(drop).inspect_err(|_| {
            memory::put_back(allocation);
        })
    }

    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let ctx = context::current()?;
        let settings = settings::get();
        let used = card::used(ctx.device);
        out(free, settings.budget.saturating_sub(used) as usize)?;
        out(total, settings.memory as usize)
    }
}

/// Memory in stream order; when there is none left, frees that are still queued bring some.
fn from_pool(
    ctx: &std::sync::Arc<context::Context>,
    pool: Handle,
    bytes: usize,
) -> Result<CUdeviceptr, u32> {
    let kind = Kind::Pool(pool as usize);
    match memory::allocate(ctx, bytes as u64, kind) {
        Err(code::OUT_OF_MEMORY) => {
            ctx.synchronize()?;
            memory::allocate(ctx, bytes as u64, kind)
        }
        result => result,
    }
}
