//! Questions about addresses and memory, answered from the tables: evicted ranges included.

use super::block::{Allocation, BLOCKS, Block, Cold, Kind};
use super::engine::Device;
use super::freed;
use super::state::State;
use crate::driver::CUdeviceptr;
use crate::heap::MAP;
use std::sync::atomic::Ordering;

/// The live allocation at an address.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its first byte.
    pub base: CUdeviceptr,
    /// What it is.
    pub allocation: Allocation,
    /// Device that owns it.
    pub device: u8,
    /// Block that holds it.
    pub block: u32,
}

/// True for addresses of the managed heap, allocated or not. One compare.
#[inline]
pub fn covers(ptr: CUdeviceptr) -> bool {
    MAP.covers(ptr)
}

/// The allocation that contains `ptr`.
pub fn find(ptr: CUdeviceptr) -> Option<Found> {
    let id = MAP.view().lookup(ptr).filter(|&id| id != 0)?;
    let block = BLOCKS.get(id);
    if matches!(block.word.load().state(), State::Vacant | State::Limbo) {
        return None;
    }
    let offset = ptr - block.base();
    let (start, allocation) = containing(&block.cold.lock(), block.kind(), offset)?;
    let found = Found { base: block.base() + start, allocation, device: block.device(), block: id };
    Some(found)
}

fn containing(cold: &Cold, kind: Kind, offset: u64) -> Option<(u64, Allocation)> {
    let (start, allocation) = match kind {
        Kind::Single => (0, cold.single),
        Kind::Shared => {
            let (&start, &allocation) = cold.allocations.range(..=offset).next_back()?;
            (start, allocation)
        }
        Kind::Slab => {
            let slot = offset.checked_div(cold.slot_bytes)?;
            (slot * cold.slot_bytes, *cold.slots.get(usize::try_from(slot).ok()?)?)
        }
    };
    (allocation.size > 0 && offset - start < allocation.size).then_some((start, allocation))
}

/// Calls `f` with every live allocation and the state of its block.
pub fn each(mut f: impl FnMut(Found, State)) {
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        let state = block.word.load().state();
        if matches!(state, State::Vacant | State::Limbo) {
            continue;
        }
        for (start, allocation) in live(block) {
            let base = block.base() + start;
            f(Found { base, allocation, device: block.device(), block: id }, state);
        }
    }
}

/// The live allocations of a block by offset.
pub fn live(block: &Block) -> Vec<(u64, Allocation)> {
    let cold = block.cold.lock();
    let all: Vec<(u64, Allocation)> = match block.kind() {
        Kind::Single => vec![(0, cold.single)],
        Kind::Shared => cold.allocations.iter().map(|(&s, &a)| (s, a)).collect(),
        Kind::Slab => {
            let slots = cold.slots.iter().enumerate();
            slots.map(|(i, &a)| (i as u64 * cold.slot_bytes, a)).collect()
        }
    };
    all.into_iter().filter(|(_, a)| a.size > 0).collect()
}

/// What the reader of a message needs to recognise a block.
pub fn describe(id: u32) -> String {
    let block = BLOCKS.get(id);
    let all = live(block);
    let bytes: u64 = all.iter().map(|(_, a)| a.size).sum();
    let at = |(start, _): &(u64, Allocation)| format!("{:#x}", block.base() + start);
    let what = match all.len() {
        1 => "buffer".to_owned(),
        n => format!("{n} buffers"),
    };
    // A line stays readable: the first few stand for many.
    let mut places: Vec<String> = all.iter().take(8).map(at).collect();
    if all.len() > places.len() {
        places.push("..".to_owned());
    }
    format!("{what} of {bytes} bytes at {} on device {}", places.join(", "), block.device())
}

/// `cuMemGetInfo` under the limit: (free, total), where the driver says `real_free` and
/// `real_total`. Memory that is held ready counts as free.
pub fn mem_info(device: &Device, real_free: u64, real_total: u64) -> (u64, u64) {
    let total = real_total.min(device.limit);
    let left = device.limit.saturating_sub(device.charged.load(Ordering::Acquire));
    let free = left.min(real_free) + freed::reusable(device);
    (free.min(total), total)
}
