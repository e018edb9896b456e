//! Stream-ordered allocation: the device's default pool is ours, other pools are the driver's.

use super::alloc::{give, unstamped};
use super::{latched, real};
use crate::driver::{Api, CUdeviceptr, CUresult, Handle, code};
use crate::hook;
use crate::intercept::guard;
use crate::registry::contexts::{self, Context};
use crate::registry::streams;
use crate::residency::alloc::{self, Order, Request};
use crate::residency::engine::{self, Device, MAX_DEVICES};
use crate::residency::query;
use std::sync::atomic::{AtomicUsize, Ordering};

hook! {
    fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytes: usize, stream: Handle) |api| {
        match ours(api, dptr, stream, false) {
            // SAFETY: `ours` refuses a null pointer; the program wants its answer there.
            Ok(Some(place)) => unsafe { place.allocate(dptr, bytes) },
            Ok(None) => real!(api.cuMemAllocAsync(dptr, bytes, stream)),
            Err(e) => e,
        }
    }

    fn cuMemAllocAsync_ptsz(dptr: *mut CUdeviceptr, bytes: usize, stream: Handle) |api| {
        match ours(api, dptr, stream, true) {
            // SAFETY: as above.
            Ok(Some(place)) => unsafe { place.allocate(dptr, bytes) },
            Ok(None) => real!(api.cuMemAllocAsync_ptsz(dptr, bytes, stream)),
            Err(e) => e,
        }
    }

    fn cuMemAllocFromPoolAsync(
        dptr: *mut CUdeviceptr,
        bytes: usize,
        pool: Handle,
        stream: Handle,
    ) |api| {
        let call = || real!(api.cuMemAllocFromPoolAsync(dptr, bytes, pool, stream));
        from_pool(api, (dptr, bytes), pool, (stream, false), call)
    }

    fn cuMemAllocFromPoolAsync_ptsz(
        dptr: *mut CUdeviceptr,
        bytes: usize,
        pool: Handle,
        stream: Handle,
    ) |api| {
        let call = || real!(api.cuMemAllocFromPoolAsync_ptsz(dptr, bytes, pool, stream));
        from_pool(api, (dptr, bytes), pool, (stream, true), call)
    }

    fn cuMemFreeAsync(dptr: CUdeviceptr, stream: Handle) |api| {
        if !query::covers(dptr) {
            return real!(api.cuMemFreeAsync(dptr, stream));
        }
        free(dptr, streams::slot_of(stream, false))
    }

    fn cuMemFreeAsync_ptsz(dptr: CUdeviceptr, stream: Handle) |api| {
        if !query::covers(dptr) {
            return real!(api.cuMemFreeAsync_ptsz(dptr, stream));
        }
        free(dptr, streams::slot_of(stream, true))
    }
}

/// Where an allocation of ours goes.
struct Place {
    context: Context,
    device: &'static Device,
    slot: u8,
}

impl Place {
    /// # Safety
    /// `dptr` may be written.
    unsafe fn allocate(self, dptr: *mut CUdeviceptr, bytes: usize) -> CUresult {
        let request = Request { size: bytes as u64, slot: Some(self.slot), context: self.context };
        // SAFETY: the caller's promise.
        guard::real(|| unsafe { give(dptr, alloc::alloc(self.device, request)) })
    }
}

/// The place for an allocation in `stream` from the device's current pool, if it is ours to give.
#[inline(always)]
fn ours(
    api: &Api,
    dptr: *mut CUdeviceptr,
    stream: Handle,
    per_thread: bool,
) -> Result<Option<Place>, CUresult> {
    let place = place(api, dptr, stream, per_thread)?;
    // Only a latched process can have another current pool.
    let usual = |place: &Place| {
        let ordinal = place.device.ordinal;
        !engine::latched() || current_pool(api, ordinal) == default_pool(api, ordinal)
    };
    Ok(place.filter(usual))
}

#[inline(always)]
fn place(
    api: &Api,
    dptr: *mut CUdeviceptr,
    stream: Handle,
    per_thread: bool,
) -> Result<Option<Place>, CUresult> {
    if dptr.is_null() || engine::frozen() {
        return Ok(None);
    }
    // The default streams are those of the current context; another stream brings its own.
    let slot = streams::slot_of(stream, per_thread);
    let context = match stream as usize {
        0..=2 => contexts::ask()?,
        _ => match streams::context_in(slot, stream).and_then(contexts::find) {
            Some(context) => Some(context),
            None => contexts::ask()?,
        },
    };
    let Some(context) = context else { return Ok(None) };
    let Some(device) = engine::device_for(context) else { return Ok(None) };
    // In a capture this is a node of the graph, and the memory is the graph's. The first call of
    // a capture has latched.
    if engine::latched() && capturing(api, stream, per_thread) {
        return Ok(None);
    }
    Ok(Some(Place { context, device, slot }))
}

fn from_pool(
    api: &Api,
    (dptr, bytes): (*mut CUdeviceptr, usize),
    pool: Handle,
    (stream, per_thread): (Handle, bool),
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    match place(api, dptr, stream, per_thread) {
        Ok(Some(place)) if Some(pool as usize) == default_pool(api, place.device.ordinal) => {
            // SAFETY: `place` refuses a null pointer; the program wants its answer there.
            unsafe { place.allocate(dptr, bytes) }
        }
        Ok(Some(_)) => latched("cuMemAllocFromPoolAsync", call),
        Ok(None) => call(),
        Err(e) => e,
    }
}

fn free(dptr: CUdeviceptr, slot: u8) -> CUresult {
    guard::served(|| match alloc::begin_free(dptr) {
        Ok(freed) => {
            guard::decided(code::SUCCESS);
            alloc::finish_free(freed, Order::After(1 << slot | unstamped()));
            code::SUCCESS
        }
        Err(e) => e,
    })
}

fn capturing(api: &Api, stream: Handle, per_thread: bool) -> bool {
    let ask = if per_thread { api.cuStreamIsCapturing_ptsz } else { api.cuStreamIsCapturing };
    let mut status = 0;
    // SAFETY: the program's own stream and a live local. What fails is not known to be free of a
    // capture.
    unsafe { ask(stream, &mut status) != code::SUCCESS || status != 0 }
}

/// The default pool of a device; it never changes.
pub(super) fn default_pool(api: &Api, device: u8) -> Option<usize> {
    static POOLS: [AtomicUsize; MAX_DEVICES] = [const { AtomicUsize::new(0) }; MAX_DEVICES];
    let known = POOLS.get(usize::from(device))?;
    if known.load(Ordering::Relaxed) == 0 {
        let mut pool = std::ptr::null_mut();
        // SAFETY: `pool` is a live local.
        if unsafe { (api.cuDeviceGetDefaultMemPool)(&mut pool, i32::from(device)) } != code::SUCCESS
        {
            return None;
        }
        known.store(pool as usize, Ordering::Relaxed);
    }
    Some(known.load(Ordering::Relaxed)).filter(|&pool| pool != 0)
}

fn current_pool(api: &Api, device: u8) -> Option<usize> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: `pool` is a live local.
    let known = unsafe { (api.cuDeviceGetMemPool)(&mut pool, i32::from(device)) };
    (known == code::SUCCESS).then_some(pool as usize)
}
