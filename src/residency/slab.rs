//! Small allocations: slabs of equal slots, always resident, always scanned.
//!
//! Pointer tables and descriptors live here almost always, so keeping them costs little and saves
//! the scan most of its surprises.

use super::alloc::{Request, discard, new_block, own_bits, publish, record};
use super::block::{Allocation, BLOCKS, Block, Cold, Kind};
use super::engine::Device;
use super::memory::{acquire, map_run};
use super::shared::ALIGN;
use crate::driver::{CUdeviceptr, CUresult, code};

/// Bytes of the slot that holds `size`: a power of two, at least the alignment.
fn slot_bytes(size: u64) -> u64 {
    size.next_power_of_two().max(ALIGN)
}

/// Allocates a slot.
pub fn alloc(device: &'static Device, request: Request) -> Result<CUdeviceptr, CUresult> {
    let class = slot_bytes(request.size);
    if let Some(ptr) = from_partial(device, class, &request) {
        return Ok(ptr);
    }
    let granules = device.granules(device.sizes.slab.max(class));
    let handles = match acquire(device, granules) {
        Ok(handles) => handles,
        // The rescue that failed has still made every free slot usable.
        Err(code::OUT_OF_MEMORY) => {
            return from_partial(device, class, &request).ok_or(code::OUT_OF_MEMORY);
        }
        Err(e) => return Err(e),
    };
    let Some((id, block)) = new_block(device, Kind::Slab, granules) else {
        let mut heap = device.heap.lock();
        handles.into_iter().for_each(|h| heap.pool.put(h));
        return Err(code::OUT_OF_MEMORY);
    };
    let extents = match map_run(device, block.base(), 0, &handles) {
        Ok(extents) => extents,
        Err(e) => {
            discard(device, id, block);
            return Err(e);
        }
    };
    let slots = (u64::from(granules) * device.sizes.granule / class) as u32;
    {
        let mut cold = block.cold.lock();
        cold.extents = extents;
        cold.slot_bytes = class;
        cold.slots = vec![Allocation::default(); slots as usize];
        cold.free_slots = (1..slots).map(|slot| (slot, 0)).collect();
        cold.slots[0] = record(&request);
    }
    publish(id, block);
    device.heap.lock().slabs.entry(class).or_default().push(id);
    Ok(block.base())
}

fn from_partial(device: &Device, class: u64, request: &Request) -> Option<CUdeviceptr> {
    let own = own_bits(request.slot);
    let mut heap = device.heap.lock();
    let ids = heap.slabs.get_mut(&class)?;
    // Full slabs leave the list and come back with their first free slot; the newest partial
    // ones are looked at first and only a few, so this stays short.
    for _ in 0..ids.len().min(4) {
        let &id = ids.last()?;
        let block = BLOCKS.get(id);
        let mut cold = block.cold.lock();
        let Some(&(slot, uses)) = cold.free_slots.front() else {
            ids.pop();
            continue;
        };
        if uses & !own == 0 {
            cold.free_slots.pop_front();
            cold.slots[slot as usize] = record(request);
            if cold.free_slots.is_empty() {
                ids.pop();
            }
            return Some(block.base() + u64::from(slot) * class);
        }
        drop(cold);
        ids.rotate_right(1);
    }
    None
}

/// Takes the allocation that starts at `offset`, if one does.
pub fn take(cold: &mut Cold, offset: u64) -> Option<Allocation> {
    if cold.slot_bytes == 0 || !offset.is_multiple_of(cold.slot_bytes) {
        return None;
    }
    cold.slots.get_mut((offset / cold.slot_bytes) as usize).map(std::mem::take)
}

/// Returns a slot to its slab; an empty slab goes when it is not the last of its class.
pub fn release(device: &'static Device, id: u32, block: &'static Block, offset: u64, uses: u64) {
    let mut heap = device.heap.lock();
    let mut cold = block.cold.lock();
    let class = cold.slot_bytes;
    let slot = (offset / class) as u32;
    cold.free_slots.push_back((slot, uses));
    let first = cold.free_slots.len() == 1;
    let empty = cold.free_slots.len() == cold.slots.len();
    let pending = cold.free_slots.iter().fold(0, |all, s| all | s.1);
    drop(cold);
    let ids = heap.slabs.entry(class).or_default();
    if first {
        ids.push(id);
    }
    if empty {
        ids.retain(|&i| i != id);
        if ids.is_empty() {
            heap.slabs.remove(&class);
        }
        drop(heap);
        block.uses.store(pending, std::sync::atomic::Ordering::Release);
        super::alloc::free_block(device, id, block);
    }
}

/// After a fence that covered everything: all free slots are free for anyone.
pub fn fenced(device: &Device) {
    let ids: Vec<u32> = device.heap.lock().slabs.values().flatten().copied().collect();
    for id in ids {
        BLOCKS.get(id).cold.lock().free_slots.iter_mut().for_each(|s| s.1 = 0);
    }
}
