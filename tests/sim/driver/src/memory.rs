//! Allocations: device memory by the allocation calls, pools, managed and pinned host memory.

use crate::abi::{CUdeviceptr, Outcome, code, end};
use crate::card::PAGE;
use crate::context::Context;
use crate::space::{Physical, SPACE};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// From a pool, in stream order.
    Pool(usize),
    Managed,
}

/// One allocation of device memory.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    pub base: CUdeviceptr,
    pub bytes: u64,
    reserved: u64,
    pub kind: Kind,
    pub ctx: usize,
    pub device: usize,
    pub id: u64,
}

impl Allocation {
    /// Pools belong to devices: their memory outlives a context.
    fn pooled(&self) -> bool {
        matches!(self.kind, Kind::Pool(_))
    }
}

static LIVE: Mutex<BTreeMap<CUdeviceptr, Allocation>> = Mutex::new(BTreeMap::new());
static IDS: AtomicU64 = AtomicU64::new(1);

/// A number no other buffer has.
pub fn next_id() -> u64 {
    IDS.fetch_add(1, Ordering::Relaxed)
}

/// Allocates on the device of a context.
pub fn allocate(ctx: &Arc<Context>, bytes: u64, kind: Kind) -> Outcome<CUdeviceptr> {
    if bytes == 0 {
        return Err(code::INVALID_VALUE);
    }
    let reserved = bytes.checked_next_multiple_of(PAGE).ok_or(code::OUT_OF_MEMORY)?;
    let physical = Physical::new(ctx.device, reserved, false)?;
    let base = {
        let mut space = SPACE.lock();
        let base = space.reserve(reserved, 64 << 10, 0, true)?;
        space.map(base, reserved, physical, kind == Kind::Managed)?;
        space.set_access(base, reserved, u32::MAX, 0)?;
        base
    };
    let allocation = Allocation {
        base,
        bytes,
        reserved,
        kind,
        ctx: ctx.handle() as usize,
        device: ctx.device,
        id: next_id(),
    };
    if let Kind::Pool(pool) = kind {
        crate::pools::taken(pool, reserved);
    }
    LIVE.lock().insert(base, allocation);
    Ok(base)
}

/// Takes an allocation away from the program; its memory is still mapped.
pub fn take(base: CUdeviceptr) -> Outcome<Allocation> {
    LIVE.lock().remove(&base).ok_or(code::INVALID_VALUE)
}

/// Gives back what `take` took.
pub fn put_back(allocation: Allocation) {
    LIVE.lock().insert(allocation.base, allocation);
}

/// Unmaps what `take` gave.
pub fn release(allocation: Allocation) {
    if let Kind::Pool(pool) = allocation.kind {
        crate::pools::returned(pool, allocation.reserved);
    }
    let mut space = SPACE.lock();
    let _ = space.unmap(allocation.base, allocation.reserved);
    let _ = space.unreserve(allocation.base, allocation.reserved, true);
}

/// The live allocation around an address.
pub fn containing(at: CUdeviceptr) -> Option<Allocation> {
    let live = LIVE.lock();
    let (_, allocation) = live.range(..=at).next_back()?;
    (at < allocation.base + allocation.bytes).then_some(*allocation)
}

/// Whether the driver would take a range as device memory.
pub fn known_device_range(at: CUdeviceptr, bytes: u64) -> bool {
    let Ok(end) = end(at, bytes) else { return false };
    if let Some(a) = containing(at) {
        return end <= a.base + a.bytes;
    }
    crate::loaded::global_containing(at).is_some_and(|(s, len)| end <= s + len)
        || host_containing(at as usize).is_some_and(|(s, h)| end <= (s + h.bytes) as u64)
        || SPACE.lock().accessible(at, bytes)
}

/// Live allocations.
pub fn live() -> usize {
    LIVE.lock().len()
}

/// A context ends with its allocations and pinned memory.
pub fn context_gone(ctx: usize) {
    let mine: Vec<Allocation> = {
        let mut live = LIVE.lock();
        let bases: Vec<_> =
            live.values().filter(|a| a.ctx == ctx && !a.pooled()).map(|a| a.base).collect();
        bases.into_iter().filter_map(|b| live.remove(&b)).collect()
    };
    mine.into_iter().for_each(release);
    let pinned: Vec<usize> =
        HOST.lock().iter().filter(|(_, h)| h.ctx == ctx).map(|(&p, _)| p).collect();
    for at in pinned {
        let _ = host_gone(at);
    }
}

/// Pinned host memory.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// No other buffer has it.
    pub id: u64,
    pub bytes: usize,
    /// Registered memory is the program's own.
    pub registered: bool,
    pub flags: u32,
    ctx: usize,
}

static HOST: Mutex<BTreeMap<usize, Host>> = Mutex::new(BTreeMap::new());

/// Allocates pinned host memory.
pub fn host_allocate(ctx: &Arc<Context>, bytes: usize, flags: u32) -> Outcome<usize> {
    if bytes == 0 {
        return Err(code::INVALID_VALUE);
    }
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags_map = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags_map, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(code::OUT_OF_MEMORY);
    }
    let ctx = ctx.handle() as usize;
    HOST.lock().insert(at as usize, Host { id: next_id(), bytes, registered: false, flags, ctx });
    Ok(at as usize)
}

/// Pins memory of the program.
pub fn host_register(ctx: &Arc<Context>, at: usize, bytes: usize, flags: u32) -> Outcome {
    let end = at.checked_add(bytes).ok_or(code::INVALID_VALUE)?;
    if at == 0 || bytes == 0 {
        return Err(code::INVALID_VALUE);
    }
    let mut host = HOST.lock();
    if host.range(..end).next_back().is_some_and(|(&s, h)| s + h.bytes > at) {
        return Err(code::HOST_MEMORY_ALREADY_REGISTERED);
    }
    host.insert(
        at,
        Host { id: next_id(), bytes, registered: true, flags, ctx: ctx.handle() as usize },
    );
    Ok(())
}

/// Ends a piece of pinned memory of the given sort.
pub fn host_end(at: usize, registered: bool) -> Outcome {
    let fits = HOST.lock().get(&at).is_some_and(|h| h.registered == registered);
    match (fits, registered) {
        (true, _) => host_gone(at),
        (false, true) => Err(code::HOST_MEMORY_NOT_REGISTERED),
        (false, false) => Err(code::INVALID_VALUE),
    }
}

fn host_gone(at: usize) -> Outcome {
    let host = HOST.lock().remove(&at).ok_or(code::INVALID_VALUE)?;
    if !host.registered {
        // SAFETY: mapped by `host_allocate` with this size.
        unsafe { libc::munmap(at as *mut _, host.bytes) };
    }
    Ok(())
}

/// Pinned memory around an address.
pub fn host_containing(at: usize) -> Option<(usize, Host)> {
    let host = HOST.lock();
    let (&start, found) = host.range(..=at).next_back()?;
    (at < start + found.bytes).then_some((start, *found))
}

/// The pieces of registered memory in order of address: start and bytes.
pub fn registered() -> Vec<(usize, usize)> {
    HOST.lock().iter().filter(|(_, h)| h.registered).map(|(&at, h)| (at, h.bytes)).collect()
}

/// Pieces of pinned memory that were allocated and not freed.
pub fn live_host() -> usize {
    HOST.lock().values().filter(|h| !h.registered).count()
}
