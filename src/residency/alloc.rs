//! Allocating and freeing.
//!
//! Three kinds: large allocations are blocks of their own, middle-sized ones share blocks in
//! order of allocation per stream (`shared.rs`), small ones live in slabs of one size class
//! (`slab.rs`). A freed range is reused at once by the stream that used it where the call carries
//! a stream, else only when every stream that used it has passed.

use super::block::{Allocation, BLOCKS, Block, Kind};
use super::engine::{self, Device};
use super::freed::{self, condemn, ready, spare_of};
use super::memory::{acquire, map_run};
use super::patience::PATIENCE;
use super::state::{Event, State};
use super::ticket::{self, Ticket};
use super::{shared, slab, stream, submit};
use crate::driver::{CUdeviceptr, CUresult, code};
use crate::fault;
use crate::heap::MAP;
use crate::registry::contexts::Context;
use crate::registry::streams;
use crate::stats;
use std::sync::atomic::Ordering;

/// How an allocation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Bytes, at least 1.
    pub size: u64,
    /// Stream slot, where the call carries a stream.
    pub slot: Option<u8>,
    /// Context it belongs to.
    pub context: Context,
}

/// Use sets that a reuse may ignore: those of the asking stream itself.
pub fn own_bits(slot: Option<u8>) -> u64 {
    slot.filter(|&s| streams::exclusive(s)).map_or(0, |s| 1 << s)
}

/// Allocates; the driver's codes on failure.
pub fn alloc(device: &'static Device, request: Request) -> Result<CUdeviceptr, CUresult> {
    if request.size == 0 {
        return Err(code::INVALID_VALUE);
    }
    if request.size > device.card {
        stats::page().oom_returned.add(1);
        return Err(code::OUT_OF_MEMORY);
    }
    stream::equip(device, request.context.handle);
    let sizes = &device.sizes;
    let ptr = if request.size < sizes.slab_below {
        slab::alloc(device, request)?
    } else if request.size < sizes.single_from {
        shared::alloc(device, request)?
    } else {
        single(device, request)?
    };
    let page = stats::page();
    page.allocations.add(1);
    page.logical.add(request.size);
    Ok(ptr)
}

/// The record of a new allocation.
pub fn record(request: &Request) -> Allocation {
    Allocation {
        size: request.size,
        ctx: request.context.handle,
        id: engine::next_id(),
        stream_ordered: request.slot.is_some(),
        tag: super::tags::current(),
        pins: 0,
    }
}

fn single(device: &'static Device, request: Request) -> Result<CUdeviceptr, CUresult> {
    let granules = device.granules(request.size);
    if let Some(id) = take_warm(device, granules, own_bits(request.slot)) {
        let block = BLOCKS.get(id);
        block.cold.lock().single = record(&request);
        block.last_use.store(super::now(), Ordering::Relaxed);
        // Cannot fail: the block is in limbo, off every list and unpinned (`take_warm`).
        block.word.apply(Event::Reuse).map_err(|_| code::UNKNOWN)?;
        return Ok(block.base());
    }
    let handles = acquire(device, granules)?;
    let (id, block) = match new_block(device, Kind::Single, granules) {
        Some(new) => new,
        None => {
            let mut heap = device.heap.lock();
            handles.into_iter().for_each(|h| heap.pool.put(h));
            return Err(code::OUT_OF_MEMORY);
        }
    };
    let extents = match map_run(device, block.base(), 0, &handles) {
        Ok(extents) => extents,
        Err(e) => {
            discard(device, id, block);
            return Err(e);
        }
    };
    {
        let mut cold = block.cold.lock();
        cold.extents = extents;
        cold.single = record(&request);
    }
    publish(id, block);
    Ok(block.base())
}

/// A freed block of exactly this size whose former users have passed or are the asker.
fn take_warm(device: &Device, granules: u32, own: u64) -> Option<u32> {
    if let Some(id) = spare_of(device, granules, own) {
        return Some(id);
    }
    let mut heap = device.heap.lock();
    let ids = heap.warm.get_mut(&granules)?;
    let at = ids.iter().rposition(|&id| ready(id, own))?;
    let id = ids.swap_remove(at);
    heap.warm_granules -= u64::from(granules);
    Some(id)
}

/// Addresses and an id for a block of `granules`, with a guard granule behind it. Not visible in
/// the granule map before [`publish`].
pub fn new_block(device: &Device, kind: Kind, granules: u32) -> Option<(u32, &'static Block)> {
    let start = device.heap.lock().addresses.take(u64::from(granules) + 1)?;
    let Some(id) = BLOCKS.allocate() else {
        device.heap.lock().addresses.release(start, u64::from(granules) + 1);
        return None;
    };
    let view = MAP.view();
    let base = view.base() + ((device.first_granule + start) << view.shift());
    let block = BLOCKS.get(id);
    *block.cold.lock() = super::block::Cold::default();
    block.describe(kind, device.ordinal, base, granules);
    block.last_use.store(super::now(), Ordering::Relaxed);
    Some((id, block))
}

/// Makes a block visible: state, then map.
pub fn publish(id: u32, block: &Block) {
    let _ = block.word.apply(Event::Create);
    let view = MAP.view();
    let start = (block.base() - view.base()) >> view.shift();
    view.set(start, u64::from(block.granules.load(Ordering::Relaxed)) + 1, id);
}

/// Gives back a block that was never published.
pub fn discard(device: &Device, id: u32, block: &Block) {
    let view = MAP.view();
    let start = ((block.base() - view.base()) >> view.shift()) - device.first_granule;
    let granules = u64::from(block.granules.load(Ordering::Relaxed)) + 1;
    device.heap.lock().addresses.release(start, granules);
    BLOCKS.release(id);
}

/// How a free is ordered against the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// After all work: the caller has waited before [`begin_free`].
    Synced,
    /// After the work of these stream slots (bit set) and all that used the range.
    After(u64),
}

/// An allocation that is no longer the program's but whose range is not reusable yet.
#[derive(Debug)]
pub struct Freed {
    id: u32,
    offset: u64,
    /// What it was.
    pub allocation: Allocation,
}

/// Takes an allocation away from the program; `ptr` must be its first byte.
pub fn begin_free(ptr: CUdeviceptr) -> Result<Freed, CUresult> {
    let id = MAP.view().lookup(ptr).filter(|&id| id != 0).ok_or(code::INVALID_VALUE)?;
    let block = BLOCKS.get(id);
    if matches!(block.word.load().state(), State::Vacant | State::Limbo) {
        return Err(code::INVALID_VALUE);
    }
    let offset = ptr - block.base();
    let mut cold = block.cold.lock();
    let allocation = match block.kind() {
        // A size of 0 marks it as gone; nobody reads the rest then.
        Kind::Single if offset == 0 => {
            let allocation = cold.single;
            cold.single.size = 0;
            cold.single.pins = 0;
            allocation
        }
        Kind::Single => Allocation::default(),
        Kind::Shared => cold.allocations.remove(&offset).unwrap_or_default(),
        Kind::Slab => slab::take(&mut cold, offset).unwrap_or_default(),
    };
    if allocation.size == 0 {
        return Err(code::INVALID_VALUE);
    }
    if block.kind() == Kind::Shared {
        // Until the range is a hole the block is not empty: nobody may take it apart meanwhile.
        cold.freeing += 1;
    }
    if allocation.pins > 0 {
        block.refresh_pins(&cold);
    }
    drop(cold);
    let page = stats::page();
    page.frees.add(1);
    page.logical.sub(allocation.size);
    Ok(Freed { id, offset, allocation })
}

/// Makes the range reusable as `order` allows.
pub fn finish_free(freed: Freed, order: Order) {
    fault::pause("free-begun");
    let block = BLOCKS.get(freed.id);
    let Some(device) = engine::device_of(block.device()) else { return };
    match block.kind() {
        Kind::Single => {
            if order == Order::Synced {
                block.uses.store(0, Ordering::Release);
            } else if let Order::After(bits) = order {
                block.uses.fetch_or(bits, Ordering::AcqRel);
            }
            free_block(device, freed.id, block);
        }
        Kind::Shared => {
            let uses = remaining_uses(block, order);
            shared::release(device, freed.id, block, freed.offset, freed.allocation.size, uses);
        }
        Kind::Slab => {
            let uses = remaining_uses(block, order);
            slab::release(device, freed.id, block, freed.offset, uses);
        }
    }
    if engine::torture() {
        submit::torture_step();
    }
}

fn remaining_uses(block: &Block, order: Order) -> u64 {
    match order {
        Order::Synced => 0,
        Order::After(bits) => block.uses.load(Ordering::Acquire) | bits,
    }
}

/// Frees a whole block: to limbo if mapped, at once if its bytes are away.
pub fn free_block(device: &'static Device, id: u32, block: &'static Block) {
    // Resident is the usual case and needs no ticket: the state itself keeps evictors off.
    if block.word.apply_if(State::Resident, Event::Free).is_ok() {
        condemn(device, id);
        return;
    }
    // Evicted, or an eviction or restore is under way: only the ticket holder moves it. A free
    // does not wait for a long rescue; whoever holds the ticket next does it then.
    match ticket::take_within(PATIENCE) {
        Some(mut ticket) => free_evicted(device, id, block, &mut ticket),
        None => device.heap.lock().abandoned.push(id),
    }
}

/// As [`free_block`] for the holder of the ticket: bytes that are away are dropped at once.
pub fn free_evicted(device: &'static Device, id: u32, block: &'static Block, ticket: &mut Ticket) {
    let was = block.word.load().state();
    if block.word.apply(Event::Free).is_err() {
        // It is on its way back; whoever holds the ticket then does it.
        if !matches!(was, State::Limbo | State::Vacant) {
            device.heap.lock().abandoned.push(id);
        }
        return;
    }
    if was.is_evicted() || was == State::Poisoned {
        engine::EVICTED.fetch_sub(1, Ordering::SeqCst);
    }
    let blob = block.cold.lock().blob.take();
    super::blob::release(blob, device.ordinal, ticket::work(ticket));
    if was == State::Resident {
        device.heap.lock().condemned.push(id);
        return;
    }
    // Nothing on the device can still use what was not mapped.
    freed::dismantle(device, id, ticket);
}
