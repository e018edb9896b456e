//! Blocks that were freed: kept ready for the next allocation of their size, and taken apart once
//! their streams have passed.
//!
//! Freed memory that streams may still use is a cache for those streams, and for nobody else before
//! all work was waited for. A program that never waits would fill the card with it. So where it is
//! more than a share of what the program holds, an allocation waits for it rather than take more.

use super::block::{BLOCKS, Block, Kind};
use super::engine::{self, Device, Heap};
use super::memory::{empty_pool, pooled, unmap_block};
use super::patience::PATIENCE;
use super::quiet;
use super::shared;
use super::state::{Event, State};
use super::ticket::{self, Ticket};
use crate::heap::MAP;
use std::sync::atomic::Ordering;

/// Bytes that were freed and that streams may still use.
fn waiting(device: &Device) -> u64 {
    let pending = |id: u32| BLOCKS.get(id).uses.load(Ordering::Acquire) != 0;
    let granules = |id: u32| u64::from(BLOCKS.get(id).granules.load(Ordering::Relaxed));
    let spare = device.spare.load(Ordering::Acquire);
    let (whole, shared) = {
        let heap = device.heap.lock();
        let all = heap.warm.values().flatten().chain(&heap.condemned).copied();
        let all = all.chain(Some(spare).filter(|&id| id != 0));
        let whole: u64 = all.filter(|&id| pending(id)).map(granules).sum();
        (whole, heap.shared.clone())
    };
    let holes = |id: u32| -> u64 {
        let cold = BLOCKS.get(id).cold.lock();
        cold.holes.iter().filter(|hole| hole.uses != 0).map(|hole| hole.len).sum()
    };
    whole * device.sizes.granule + shared.into_iter().map(holes).sum::<u64>()
}

/// Bytes that the program holds, or thereabouts.
fn used(device: &Device, heap: &Heap) -> u64 {
    let granules = |&id: &u32| u64::from(BLOCKS.get(id).granules.load(Ordering::Relaxed));
    let condemned: u64 = heap.condemned.iter().map(granules).sum();
    let idle = (heap.pool.granules() + heap.warm_granules + condemned) * device.sizes.granule;
    device.charged.load(Ordering::Relaxed).saturating_sub(idle)
}

/// What waits, if that is more than a cache should hold.
fn too_much(device: &Device) -> Option<u64> {
    let cache = device.cache(used(device, &device.heap.lock()));
    let most = cache.max(device.grace.load(Ordering::Relaxed));
    Some(waiting(device)).filter(|&waiting| waiting > most)
}

/// Before more memory is taken: waits for what was freed, if that is too much to be left.
pub fn catch_up(device: &'static Device, granules: u32) {
    let there = pooled(device) >= u64::from(granules) * device.sizes.granule;
    if there || engine::latched() || too_much(device).is_none() {
        return;
    }
    let Some(mut ticket) = ticket::take_within(PATIENCE) else { return };
    // Another thread may have waited meanwhile.
    let Some(waiting) = too_much(device) else { return };
    if let Ok(Some(quiet)) = quiet::reach(PATIENCE, &ticket) {
        drop(quiet);
        retire(device, &mut ticket);
        device.grace.store(0, Ordering::Relaxed);
    } else {
        // The device is at work on something long: nobody waits for it at every allocation.
        device.grace.store(waiting * 2, Ordering::Relaxed);
    }
}

/// Takes a freed block apart: mapping, handles, addresses, id. Its streams must have passed.
pub fn dismantle(device: &Device, id: u32, ticket: &mut Ticket) {
    let block = BLOCKS.get(id);
    debug_assert_eq!(block.word.load().state(), State::Limbo);
    if unmap_block(device, block, ticket).is_err() {
        // Cannot be unmapped now: it stays in limbo until the next attempt.
        device.heap.lock().condemned.push(id);
        return;
    }
    let mut heap = device.heap.lock();
    forget(device, &mut heap, id, block);
}

/// Returns addresses and id of a block that has no mapping any more.
pub fn forget(device: &Device, heap: &mut Heap, id: u32, block: &Block) {
    let granules = block.granules.load(Ordering::Relaxed);
    let view = MAP.view();
    let start = (block.base() - view.base()) >> view.shift();
    view.set(start, u64::from(granules) + 1, 0);
    heap.addresses.release(start - device.first_granule, u64::from(granules) + 1);
    if block.word.apply(Event::Retire).is_ok() {
        BLOCKS.release(id);
    }
}

/// Dismantles freed blocks whose streams have passed; true if there were any.
pub fn retire(device: &'static Device, ticket: &mut Ticket) -> bool {
    let abandoned = std::mem::take(&mut device.heap.lock().abandoned);
    for id in abandoned {
        super::alloc::free_evicted(device, id, BLOCKS.get(id), ticket);
    }
    shared::sweep(device, ticket);
    if let Some(id) = take_spare(device) {
        keep(device, id);
    }
    let mut out = Vec::new();
    {
        let passed = |&id: &u32| {
            let block = BLOCKS.get(id);
            block.uses.load(Ordering::Acquire) == 0 && block.word.load().pins() == 0
        };
        let mut heap = device.heap.lock();
        let mut granules = 0u64;
        heap.warm.retain(|&size, ids| {
            let gone = ids.extract_if(.., |id| passed(id));
            let before = out.len();
            out.extend(gone);
            granules += u64::from(size) * (out.len() - before) as u64;
            !ids.is_empty()
        });
        heap.warm_granules -= granules;
        out.extend(heap.condemned.extract_if(.., |id| passed(id)));
    }
    for &id in &out {
        dismantle(device, id, ticket);
    }
    !out.is_empty()
}

/// Bytes that could be handed out again without any eviction: pool and freed blocks.
pub fn reusable(device: &Device) -> u64 {
    let spare = match device.spare.load(Ordering::Acquire) {
        0 => 0,
        id => u64::from(BLOCKS.get(id).granules.load(Ordering::Relaxed)),
    };
    let heap = device.heap.lock();
    (heap.pool.granules() + heap.warm_granules + spare) * device.sizes.granule
}

fn take_spare(device: &Device) -> Option<u32> {
    Some(device.spare.swap(0, Ordering::AcqRel)).filter(|&id| id != 0)
}

/// Whether the freed block `id` may be given out again to whoever has passed `own`.
pub fn ready(id: u32, own: u64) -> bool {
    let block = BLOCKS.get(id);
    block.uses.load(Ordering::Acquire) & !own == 0 && block.word.load().pins() == 0
}

/// The spare block, if it has exactly this size and is ready for `own`.
pub fn spare_of(device: &Device, granules: u32, own: u64) -> Option<u32> {
    let id = device.spare.load(Ordering::Acquire);
    let fits =
        |id: u32| BLOCKS.get(id).granules.load(Ordering::Relaxed) == granules && ready(id, own);
    if id == 0 || !fits(id) {
        return None;
    }
    device.spare.compare_exchange(id, 0, Ordering::AcqRel, Ordering::Relaxed).ok()?;
    // Taken and put back by others between look and take: it is the same block, not the same use.
    if fits(id) {
        return Some(id);
    }
    keep(device, id);
    None
}

/// Puts a freed block on the list of those that are kept ready, whatever their sum.
fn keep(device: &Device, id: u32) {
    let granules = BLOCKS.get(id).granules.load(Ordering::Relaxed);
    let mut heap = device.heap.lock();
    heap.warm_granules += u64::from(granules);
    heap.warm.entry(granules).or_default().push(id);
}

/// Frees one block whose allocations are all gone; what is freed last is kept at hand.
pub fn condemn(device: &'static Device, id: u32) {
    let block = BLOCKS.get(id);
    let granules = block.granules.load(Ordering::Relaxed);
    let may_stay = block.kind() == Kind::Single && !engine::latched();
    let bytes = u64::from(granules) * device.sizes.granule;
    if may_stay && bytes <= device.warm_cap() / 2 {
        match device.spare.swap(id, Ordering::AcqRel) {
            0 => {}
            older => shelve(device, older, true),
        }
        return;
    }
    shelve(device, id, may_stay);
}

/// Keeps a freed block ready if it `may_stay` and there is room, else takes it apart as soon as
/// its streams have passed.
fn shelve(device: &'static Device, id: u32, may_stay: bool) {
    let granules = BLOCKS.get(id).granules.load(Ordering::Relaxed);
    // What streams use cannot go anyway; meanwhile it may serve them.
    let pending = BLOCKS.get(id).uses.load(Ordering::Acquire) != 0;
    {
        let mut heap = device.heap.lock();
        let room = (heap.warm_granules + u64::from(granules)) * device.sizes.granule;
        let fits = |heap: &Heap| {
            room <= device.warm_cap() || pending && room <= device.cache(used(device, heap))
        };
        if may_stay && fits(&heap) {
            heap.warm_granules += u64::from(granules);
            heap.warm.entry(granules).or_default().push(id);
            return;
        }
        heap.condemned.push(id);
    }
    if let Some(mut ticket) = ticket::try_take() {
        retire(device, &mut ticket);
        if !device.pressed.load(Ordering::Relaxed) {
            empty_pool(device);
        }
    }
}
