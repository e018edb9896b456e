//! Middle-sized allocations: filled in order of allocation per stream, so that what was made
//! together leaves together.
//!
//! A block's addresses are all reserved at once; granules are mapped as the filling reaches them.
//! A block that is filling is pinned for the moment its mapping grows, so no eviction sees half
//! of it. Holes left by frees are reused best fit, by streams that may.

use super::alloc::{Request, new_block, own_bits, publish, record};
use super::block::{BLOCKS, Block, Cold, Hole, Kind};
use super::engine::Device;
use super::memory::{acquire, map_run};
use super::restore::Pinned;
use super::state::{Event, State};
use super::ticket::Ticket;
use crate::driver::{CUdeviceptr, CUresult, code};
use crate::registry::streams::LEGACY;
use std::sync::atomic::Ordering;

/// The driver promises 256; textures and vector loads like 512.
pub const ALIGN: u64 = 512;

/// Allocates `request.size` bytes in a hole or at the end of the stream's open block.
pub fn alloc(device: &'static Device, request: Request) -> Result<CUdeviceptr, CUresult> {
    let len = request.size.next_multiple_of(ALIGN);
    if let Some(ptr) = from_hole(device, &request, len) {
        return Ok(ptr);
    }
    let key = request.slot.unwrap_or(LEGACY);
    // Twice: the open block may be full, or evicted meanwhile; a fresh one cannot be.
    for _ in 0..8 {
        let open = device.heap.lock().open.get(&key).copied();
        let id = match open {
            Some(id) => id,
            None => {
                let id = open_block(device)?;
                let mut heap = device.heap.lock();
                heap.open.insert(key, id);
                heap.shared.push(id);
                id
            }
        };
        match append(device, id, &request, len) {
            Ok(Some(ptr)) => return Ok(ptr),
            Ok(None) => {
                let mut heap = device.heap.lock();
                if heap.open.get(&key) == Some(&id) {
                    heap.open.remove(&key);
                }
            }
            // The rescue that failed has still made every hole usable.
            Err(code::OUT_OF_MEMORY) => break,
            Err(e) => return Err(e),
        }
    }
    from_hole(device, &request, len).ok_or(code::OUT_OF_MEMORY)
}

fn open_block(device: &'static Device) -> Result<u32, CUresult> {
    let granules = device.granules(device.sizes.shared);
    let (id, block) = new_block(device, Kind::Shared, granules).ok_or(code::OUT_OF_MEMORY)?;
    publish(id, block);
    Ok(id)
}

fn from_hole(device: &Device, request: &Request, len: u64) -> Option<CUdeviceptr> {
    let own = own_bits(request.slot);
    let ids = device.heap.lock().shared.clone();
    let mut best: Option<(u64, u32)> = None;
    for &id in &ids {
        let block = BLOCKS.get(id);
        if !block.word.is_resident() || block.kind() != Kind::Shared {
            continue;
        }
        let cold = block.cold.lock();
        let fit = cold.holes.iter().filter(|h| h.uses & !own == 0 && h.len >= len);
        if let Some(hole) = fit.min_by_key(|h| h.len)
            && best.is_none_or(|(have, _)| hole.len < have)
        {
            best = Some((hole.len, id));
        }
    }
    let (_, id) = best?;
    let block = BLOCKS.get(id);
    // Pinned while we look again: the block stays resident and is not retired under us.
    block.word.apply(Event::Pin).ok()?;
    let offset = if block.device() != device.ordinal {
        // The id was given out anew, to another device's block.
        None
    } else {
        let mut cold = block.cold.lock();
        let offset = take_hole(&mut cold, own, len);
        if let Some(offset) = offset {
            cold.allocations.insert(offset, record(request));
        }
        offset
    };
    let _ = block.word.apply(Event::Unpin);
    offset.map(|offset| block.base() + offset)
}

fn take_hole(cold: &mut Cold, own: u64, len: u64) -> Option<u64> {
    let fit = cold.holes.iter().enumerate().filter(|(_, h)| h.uses & !own == 0 && h.len >= len);
    let (at, _) = fit.min_by_key(|(_, h)| h.len)?;
    let hole = &mut cold.holes[at];
    let start = hole.start;
    hole.start += len;
    hole.len -= len;
    if hole.len == 0 {
        cold.holes.swap_remove(at);
    }
    Some(start)
}

/// Appends to the block; `Ok(None)` when it is full or no longer resident.
fn append(
    device: &'static Device,
    id: u32,
    request: &Request,
    len: u64,
) -> Result<Option<CUdeviceptr>, CUresult> {
    let block = BLOCKS.get(id);
    let mut held = Pinned::default();
    if !held.pin(block) {
        return Ok(None);
    }
    // Looked at under the pin: the id may have been given out anew since it was read.
    let ours = block.kind() == Kind::Shared && block.device() == device.ordinal;
    if ours { append_pinned(device, block, request, len) } else { Ok(None) }
}

/// A part at the end of a block that is being mapped for an allocation. Unless that is done the
/// allocation is taken back, by a panic as well.
struct Growing<'a> {
    block: &'a Block,
    offset: u64,
    capacity: u64,
    first: u32,
    granules: u32,
    mapped: bool,
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if self.mapped {
            return;
        }
        let mut cold = self.block.cold.lock();
        cold.growing -= 1;
        cold.allocations.remove(&self.offset);
        if cold.claimed == self.first + self.granules {
            // Nobody came after us: as if nothing had happened.
            cold.bump = self.offset;
            cold.claimed = self.first;
        } else {
            // The part stays unmapped and unused; the block takes no more.
            cold.bump = self.capacity;
        }
    }
}

fn append_pinned(
    device: &'static Device,
    block: &Block,
    request: &Request,
    len: u64,
) -> Result<Option<CUdeviceptr>, CUresult> {
    let granule = device.sizes.granule;
    let capacity = u64::from(block.granules.load(Ordering::Relaxed)) * granule;
    let (offset, first, granules) = {
        let mut cold = block.cold.lock();
        // A granule that another thread is still mapping cannot be shared with it: this call
        // could return before that one, with an address that is not there yet.
        let offset = if cold.growing > 0 { u64::from(cold.claimed) * granule } else { cold.bump };
        if offset + len > capacity {
            return Ok(None);
        }
        let first = cold.claimed;
        let end = (offset + len).div_ceil(granule) as u32;
        cold.bump = offset + len;
        cold.claimed = end.max(first);
        // Recorded at once: a concurrent free of the block's last other allocation must not
        // retire it.
        cold.allocations.insert(offset, record(request));
        let granules = cold.claimed - first;
        cold.growing += u32::from(granules > 0);
        (offset, first, granules)
    };
    if granules > 0 {
        let mut growing = Growing { block, offset, capacity, first, granules, mapped: false };
        let extents = acquire(device, granules)
            .and_then(|handles| map_run(device, block.base(), first, &handles))?;
        let mut cold = block.cold.lock();
        growing.mapped = true;
        cold.growing -= 1;
        cold.extents.extend(extents);
        cold.extents.sort_by_key(|e| e.first);
        // Others have left the rest of our last granule alone meanwhile.
        let (end, mapped) = (offset + len, u64::from(first + granules) * granule);
        if cold.bump != end && mapped > end {
            add_hole(&mut cold.holes, Hole { start: end, len: mapped - end, uses: 0 });
        }
    }
    Ok(Some(block.base() + offset))
}

/// Returns a range to its block; the last one returns the block.
pub fn release(
    device: &'static Device,
    id: u32,
    block: &'static Block,
    offset: u64,
    size: u64,
    uses: u64,
) {
    let len = size.next_multiple_of(ALIGN);
    let empty = {
        let mut cold = block.cold.lock();
        add_hole(&mut cold.holes, Hole { start: offset, len, uses });
        cold.freeing -= 1;
        cold.is_empty()
    };
    if !empty {
        return;
    }
    if block.word.load().state() == State::Resident {
        // Somebody who pins it now is about to allocate from it or to launch: it stays, and
        // `sweep` finds it if it is still empty later.
        if unlist(device, id, block) {
            super::freed::condemn(device, id);
        }
    } else if let Some(mut ticket) = super::ticket::take_within(super::patience::PATIENCE) {
        // Else the next holder of the ticket sweeps.
        sweep(device, &mut ticket);
    }
}

/// Takes an empty, unpinned, resident block off the lists and out of the program's reach.
fn unlist(device: &Device, id: u32, block: &Block) -> bool {
    let mut heap = device.heap.lock();
    let Some(at) = heap.shared.iter().position(|&s| s == id) else { return false };
    {
        // The pin of an allocator is taken before it adds to the table, so with the word gone to
        // limbo here nobody can add any more.
        let cold = block.cold.lock();
        if !cold.is_empty() || block.word.apply_unpinned(Event::Free).is_err() {
            return false;
        }
        let pending = cold.holes.iter().fold(0, |all, h| all | h.uses);
        block.uses.store(pending, Ordering::Release);
    }
    heap.shared.swap_remove(at);
    heap.open.retain(|_, open| *open != id);
    true
}

/// Returns every block that holds nothing any more, evicted ones included.
pub fn sweep(device: &'static Device, ticket: &mut Ticket) {
    let ids = device.heap.lock().shared.clone();
    for id in ids {
        let block = BLOCKS.get(id);
        if block.kind() != Kind::Shared || !block.cold.lock().is_empty() {
            continue;
        }
        let state = block.word.load().state();
        if state == State::Resident {
            if unlist(device, id, block) {
                device.heap.lock().condemned.push(id);
            }
        } else if state.is_evicted() || state == State::Poisoned {
            // Nobody allocates from what is not resident, so it stays empty.
            {
                let mut heap = device.heap.lock();
                heap.shared.retain(|&s| s != id);
                heap.open.retain(|_, open| *open != id);
            }
            super::alloc::free_evicted(device, id, block, ticket);
        }
    }
}

/// Inserts a hole and merges it with neighbours; a merged hole waits for all their streams.
fn add_hole(holes: &mut Vec<Hole>, mut hole: Hole) {
    while let Some(at) = holes.iter().position(|h| {
        (h.start + h.len == hole.start || hole.start + hole.len == h.start)
            && (h.uses == hole.uses || h.len.min(hole.len) < 4096)
    }) {
        let other = holes.swap_remove(at);
        hole.start = hole.start.min(other.start);
        hole.len += other.len;
        hole.uses |= other.uses;
    }
    holes.push(hole);
}

/// After a fence that covered everything: all holes are free for anyone.
pub fn fenced(device: &Device) {
    let ids = device.heap.lock().shared.clone();
    for id in ids {
        let mut cold = BLOCKS.get(id).cold.lock();
        let holes = std::mem::take(&mut cold.holes);
        for hole in holes {
            add_hole(&mut cold.holes, Hole { uses: 0, ..hole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_merge_and_fit_best() {
        let mut cold = Cold::default();
        for (start, len) in [(0, 8192), (16384, 4096), (8192, 8192)] {
            add_hole(&mut cold.holes, Hole { start, len, uses: 0 });
        }
        assert_eq!(cold.holes, [Hole { start: 0, len: 20480, uses: 0 }]);
        add_hole(&mut cold.holes, Hole { start: 65536, len: 512, uses: 2 });
        assert_eq!(take_hole(&mut cold, 0, 512), Some(0), "the small one waits for stream 1");
        assert_eq!(take_hole(&mut cold, 2, 512), Some(65536), "which may reuse it at once");
        assert_eq!(take_hole(&mut cold, 0, 1 << 20), None);
    }

    /// What is too small to keep apart waits for everybody, what is not does not.
    #[test]
    fn merged_holes_wait_for_the_streams_of_both() {
        let merged = |first: Hole, second: Hole| {
            let mut holes = vec![first];
            add_hole(&mut holes, second);
            holes
        };
        let hole = |start, len, uses| Hole { start, len, uses };
        let (low, high) = (hole(0, 512, 2), hole(512, 8192, 4));
        assert_eq!(merged(low, high), [hole(0, 8704, 6)]);
        assert_eq!(merged(high, low), [hole(0, 8704, 6)]);
        let (low, high) = (hole(0, 4096, 2), hole(4096, 4096, 4));
        assert_eq!(merged(low, high), [low, high]);
    }
}
