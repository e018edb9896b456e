//! Restore: memory, mapping, bytes, check; the block is usable again when it returns.
//!
//! Runs under the ticket, outside any launch section. Never loses data: without memory the block
//! is away again with its copy intact. What is decoded is checked where it is used
//! (`decode.rs`); what fails twice makes the block POISONED.

use super::blob::{Blob, release};
use super::block::{BLOCKS, Block, Extent};
use super::coder::Site;
use super::decode::{self, Failed, Job};
use super::engine::{self, EVICTED};
use super::memory::{acquire_with, map_run, unmap_block, unmap_those};
use super::patience::Effort;
use super::state::{Event, State};
use super::ticket::{self, Ticket, Work};
use super::{gauges, store};
use crate::driver::{CUresult, code};
use crate::fault;
use crate::heap::MAP;
use crate::stats;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What every operation on a poisoned block answers: the driver's word for data that is lost.
pub const POISONED: CUresult = code::ECC_UNCORRECTABLE;

/// Makes a block resident, and every evicted block that its bytes point to: a kernel that gets
/// this block can follow them. One try; NOT_READY asks for another one (`patience.rs`).
pub fn restore(wanted: u32, ticket: &mut Ticket, effort: Effort) -> Result<(), CUresult> {
    let mut todo = vec![wanted];
    let mut filled: Vec<Filled> = Vec::new();
    // Resident blocks that the set names: until it is resident no scan sees that it does.
    let mut named = Pinned::default();
    let mut result = Ok(());
    while let Some(id) = todo.pop() {
        let block = BLOCKS.get(id);
        match block.word.load().state() {
            State::Compressed | State::Spilled => {}
            State::Poisoned => {
                if id != wanted {
                    let (from, to) = (super::query::describe(wanted), super::query::describe(id));
                    let text = format!(
                        "cannot restore {from} while the lost {to} is not freed: it leads there"
                    );
                    crate::say::once("leads-to-lost", &text);
                }
                result = Err(POISONED);
                break;
            }
            _ => {
                named.pin(block);
                continue;
            }
        }
        todo.extend(outgoing(block).into_iter().filter(|&id| !named.pin(BLOCKS.get(id))));
        match fill_one(id, ticket, effort) {
            Ok(one) => filled.push(one),
            Err(e) => {
                result = Err(e);
                break;
            }
        }
    }
    fault::point("restore-filled", "");
    // All or none: a block whose bytes point to one that is away must not be handed out.
    match result {
        Ok(()) => {
            filled.iter().for_each(|one| usable(one.block));
            filled.into_iter().for_each(|one| finish(one, ticket));
        }
        Err(_) => filled.into_iter().for_each(|one| undo(one, ticket)),
    }
    gauges::publish_tiers(ticket::work(ticket));
    result
}

/// The blocks that the copy of an evicted one points into.
fn outgoing(block: &Block) -> Vec<u32> {
    let view = MAP.view();
    let cold = block.cold.lock();
    let granules = cold.blob.iter().flat_map(|blob| &blob.outgoing);
    let mut ids: Vec<u32> = granules.map(|&g| view.at(g)).filter(|&id| id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Short pins of several blocks, dropped together.
#[derive(Default)]
pub struct Pinned(Vec<&'static Block>);

impl Pinned {
    /// Keeps the block on the device if it is there; false if it is not.
    pub fn pin(&mut self, block: &'static Block) -> bool {
        let pinned = block.word.apply(Event::Pin).is_ok();
        if pinned {
            self.0.push(block);
        }
        pinned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for block in &self.0 {
            let _ = block.word.apply(Event::Unpin);
        }
    }
}

/// A block that is RESTORING. Where that is not finished, by a panic as well, the block is away
/// again with its copy; what was mapped of it stays so until the next attempt.
struct Filled {
    id: u32,
    block: &'static Block,
    device: &'static engine::Device,
    blob: Blob,
    started: Instant,
}

impl Drop for Filled {
    fn drop(&mut self) {
        if self.block.word.load().state() == State::Restoring {
            self.block.cold.lock().blob = Some(std::mem::take(&mut self.blob));
            let _ = self.block.word.apply(Event::AbandonRestore);
        }
    }
}

fn fill_one(id: u32, ticket: &mut Ticket, effort: Effort) -> Result<Filled, CUresult> {
    let started = Instant::now();
    let block = BLOCKS.get(id);
    let device = engine::device_of(block.device()).ok_or(code::NOT_INITIALIZED)?;
    block.word.apply(Event::BeginRestore).map_err(|_| code::UNKNOWN)?;
    let Some(blob) = block.cold.lock().blob.take() else {
        // No copy and not resident cannot happen; never hand out a block without its bytes.
        poison(id, block, "its copy is missing");
        return Err(POISONED);
    };
    let mut one = Filled { id, block, device, blob, started };
    fault::point("restore-begun", "");
    map_missing(device, block, &one.blob, ticket, effort)?;
    fault::point("restore-mapped", "");
    match fill(device, block, &one.blob, ticket::work(ticket)) {
        Ok(()) => Ok(one),
        Err(Failed::Corrupt(why)) => {
            poison(id, block, &why);
            let _ = unmap_block(device, block, ticket);
            let blob = Some(std::mem::take(&mut one.blob));
            release(blob, device.ordinal, ticket::work(ticket));
            Err(POISONED)
        }
        Err(Failed::Driver(e)) => {
            undo(one, ticket);
            Err(e)
        }
    }
}

/// The block may be used from here on. Nothing in it can fail.
fn usable(block: &Block) {
    block.last_use.store(super::now(), Ordering::Relaxed);
    EVICTED.fetch_sub(1, Ordering::SeqCst);
    let _ = block.word.apply(Event::FinishRestore);
}

/// Gives back what kept the bytes of a block that is usable again.
fn finish(mut one: Filled, ticket: &mut Ticket) {
    let (id, started) = (one.id, one.started);
    let bytes = one.blob.granules() * one.device.sizes.granule;
    let work = ticket::work(ticket);
    release(Some(std::mem::take(&mut one.blob)), one.device.ordinal, work);
    store::shrink(one.device, work);
    let page = stats::page();
    page.restores.add(1);
    page.restored_bytes.add(bytes);
    page.bytes_verified.add(bytes);
    page.restore_latency.record(started.elapsed());
    tracing::debug!(block = id, bytes, took = ?started.elapsed(), "restored");
}

/// The block stays away, with its copy.
fn undo(one: Filled, ticket: &mut Ticket) {
    take_memory_back(one.device, one.block, &one.blob, ticket);
}

/// Maps what is not mapped of the block.
fn map_missing(
    device: &'static engine::Device,
    block: &Block,
    blob: &Blob,
    ticket: &mut Ticket,
    effort: Effort,
) -> Result<(), CUresult> {
    let gaps = missing(&coded_runs(blob), &block.cold.lock().extents);
    for (first, granules) in gaps {
        let mapped = acquire_with(device, granules, ticket, effort)
            .and_then(|handles| map_run(device, block.base(), first, &handles));
        match mapped {
            Ok(extents) => {
                let mut cold = block.cold.lock();
                cold.extents.extend(extents);
                cold.extents.sort_by_key(|e| e.first);
            }
            Err(e) => {
                take_memory_back(device, block, blob, ticket);
                return Err(e);
            }
        }
    }
    Ok(())
}

/// What is coded of a block, in runs: memory for one is asked for at once.
fn coded_runs(blob: &Blob) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for part in blob.parts.iter().filter(|part| part.pages.is_some()) {
        match runs.last_mut() {
            Some((first, n)) if *first + *n == part.first => *n += part.granules,
            _ => runs.push((part.first, part.granules)),
        }
    }
    runs
}

/// Parts of `runs` that no extent covers.
fn missing(runs: &[(u32, u32)], extents: &[Extent]) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    for &(first, granules) in runs {
        let mut at = first;
        let end = first + granules;
        for extent in extents.iter().filter(|e| e.first >= first && e.first < end) {
            if extent.first > at {
                out.push((at, extent.first - at));
            }
            at = extent.first + extent.handle.granules;
        }
        if at < end {
            out.push((at, end - at));
        }
    }
    out
}

fn fill(
    device: &'static engine::Device,
    block: &Block,
    blob: &Blob,
    work: &mut Work,
) -> Result<(), Failed> {
    let mut jobs = Vec::new();
    for part in &blob.parts {
        let Some(pages) = &part.pages else { continue };
        let mut to = block.base() + u64::from(part.first) * device.sizes.granule;
        let end = to + u64::from(part.granules) * device.sizes.granule;
        for page in pages {
            jobs.push(Job { page, to });
            to += page.descriptor.bytes() as u64;
        }
        if to != end {
            return Err(Failed::Corrupt("its copy is not complete".to_owned()));
        }
    }
    decode::decode(&Site::of(device, work)?, &jobs, work)
}

/// Unmaps what was mapped of a block that stays away. What is in place is mapped nowhere else.
fn take_memory_back(device: &engine::Device, block: &Block, blob: &Blob, ticket: &mut Ticket) {
    // What cannot be unmapped stays the block's, for the next attempt.
    let _ = unmap_those(device, block, ticket, |extent| !blob.in_place(extent.first));
}

/// Its bytes are lost. It stays counted as evicted until it is freed: what names it must go on
/// being found before it reaches the device, where it would be a fault that ends everything.
fn poison(id: u32, block: &Block, why: &str) {
    let _ = block.word.apply(Event::Poison);
    stats::page().poisoned.add(1);
    let allocation = super::query::describe(id);
    crate::say::line(&format!(
        "cannot restore {allocation}: {why}; every operation on it returns an error"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::Handle;

    #[test]
    fn missing_is_what_no_extent_covers() {
        let extent = |first, granules| Extent { first, handle: Handle { raw: 0, granules } };
        assert_eq!(missing(&[(0, 8)], &[]), [(0, 8)]);
        assert_eq!(missing(&[(0, 8)], &[extent(0, 4), extent(4, 4)]), []);
        assert_eq!(missing(&[(0, 8)], &[extent(4, 1)]), [(0, 4), (5, 3)]);
        assert_eq!(missing(&[(0, 4), (8, 4)], &[extent(8, 1)]), [(0, 4), (9, 3)]);
    }
}
