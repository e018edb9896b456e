//! Eviction: stop the world, fence, scan, copy out, check, unmap.
//!
//! The protocol, all under the ticket: choose victims; stop the world (nobody is inside a launch
//! section); mark them EVICTING; fence every live context; scan all roots; copy each victim to
//! the host tier and check the copy; drop victims that anything still names; unmap the rest. The
//! world runs again at the end, so no launch can see a half-evicted block. Every wait is bounded;
//! a wait that fails cancels the attempt and loses nothing.

use super::block::{BLOCKS, Blob, Block, Extent, Kind};
use super::engine::{self, Device, EVICTED};
use super::memory::{runs, unmap_extents};
use super::state::{Event, State, Word};
use super::ticket::{self, STAGING, Ticket, Work};
use super::{fence, scan, section};
use crate::codec::{PAGE, Page};
use crate::config::{self, Safety, Verify};
use crate::driver::{CUresult, code};
use crate::heap::MAP;
use crate::policy::{self, Candidate};
use crate::stats;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What an attempt brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Physical bytes that came free.
    pub bytes: u64,
    /// A wait ran out; a later attempt may do better.
    pub try_again: bool,
}

struct Victim {
    id: u32,
    block: &'static Block,
    word: Word,
    blob: Option<Blob>,
    refused: bool,
}

/// Evicts about `need` bytes of `device`, coldest first.
pub fn evict(
    device: &'static Device,
    need: u64,
    ticket: &mut Ticket,
    patience: Duration,
) -> Outcome {
    evict_some(device, need, ticket, patience, |_| true)
}

/// As [`evict`], only blocks that `which` accepts.
pub fn evict_some(
    device: &'static Device,
    need: u64,
    ticket: &mut Ticket,
    patience: Duration,
    which: impl Fn(u32) -> bool,
) -> Outcome {
    if !engine::armed() {
        return Outcome::default();
    }
    let mut chosen = policy::lru(candidates(device, which), need);
    let work = ticket::work(ticket);
    while let Some(last) = chosen.pop() {
        let bytes: u64 = chosen.iter().map(|c| c.bytes).sum::<u64>() + last.bytes;
        if work.arena.make_room(bytes.div_ceil(PAGE as u64) as usize, config::host::headroom) {
            chosen.push(last);
            break;
        }
        stats::page().refused_no_host_memory.add(1);
        crate::say::once(
            "host-limit",
            "the host memory for evicted bytes is used up (host_limit); evicting no more",
        );
    }
    if chosen.is_empty() {
        stats::page().refused_nothing_cold.add(1);
        return Outcome::default();
    }
    let started = Instant::now();
    let Some(world) = section::stop(patience) else {
        stats::page().refused_fence_timeout.add(1);
        return Outcome { bytes: 0, try_again: true };
    };
    let mut victims: Vec<Victim> = chosen
        .iter()
        .filter_map(|c| {
            let block = BLOCKS.get(c.id);
            let word = block.word.apply(Event::BeginEvict).ok()?;
            Some(Victim { id: c.id, block, word, blob: None, refused: false })
        })
        .collect();
    let outcome = match fence::record_all().and_then(|f| f.wait(patience)) {
        Ok(true) => move_out(device, &mut victims, ticket),
        Ok(false) => {
            stats::page().refused_fence_timeout.add(1);
            Outcome { bytes: 0, try_again: true }
        }
        Err(_) => Outcome::default(),
    };
    for victim in victims.iter_mut().filter(|v| v.block.word.load().state() == State::Evicting) {
        release_blob(victim.blob.take(), ticket::work(ticket));
        let _ = victim.block.word.apply_in(victim.word, Event::CancelEvict);
    }
    drop(world);
    if outcome.bytes > 0 {
        let page = stats::page();
        page.eviction_ns.add(started.elapsed().as_nanos() as u64);
        crate::say::first_eviction(outcome.bytes, started.elapsed());
    }
    outcome
}

fn candidates(device: &Device, which: impl Fn(u32) -> bool) -> Vec<Candidate> {
    let mut out = Vec::new();
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        let word = block.word.load();
        let eligible = word.state() == State::Resident
            && word.pins() == 0
            && block.device() == device.ordinal
            && block.kind() != Kind::Slab
            && block.reasons.load(Ordering::Acquire) == 0
            && which(id);
        if !eligible {
            continue;
        }
        let bytes = super::memory::mapped_bytes(device, block);
        if bytes > 0 {
            out.push(Candidate { id, bytes, last_use: block.last_use.load(Ordering::Relaxed) });
        }
    }
    out
}

/// The fenced part: nothing runs, nothing starts.
fn move_out(device: &'static Device, victims: &mut [Victim], ticket: &mut Ticket) -> Outcome {
    let page = stats::page();
    let started = Instant::now();
    let ids: HashSet<u32> = victims.iter().map(|v| v.id).collect();
    let hits = if config::get().safety == Safety::Params {
        scan::Hits::new()
    } else {
        match scan::roots(&ids, ticket::work(ticket)) {
            Ok(hits) => hits,
            Err(_) => return Outcome::default(),
        }
    };
    page.scans.add(1);
    page.scan_ns.add(started.elapsed().as_nanos() as u64);
    let mut named = named_blocks(&hits);
    for victim in victims.iter_mut() {
        if named.contains(&victim.id) {
            victim.refused = true;
            continue;
        }
        match copy_out(device, victim.block, ticket::work(ticket)) {
            Ok(blob) => victim.blob = Some(blob),
            Err(_) => victim.refused = true,
        }
    }
    // A victim that stays is a root like any other: what it names stays too.
    loop {
        let mut grew = false;
        for victim in victims.iter_mut().filter(|v| v.refused) {
            match victim.blob.take() {
                Some(blob) => {
                    grew |= extend(&mut named, &blob.outgoing);
                    release_blob(Some(blob), ticket::work(ticket));
                }
                None => grew |= extend_from_memory(device, victim.block, &mut named, ticket),
            }
        }
        for victim in victims.iter_mut().filter(|v| !v.refused) {
            victim.refused = named.contains(&victim.id);
            grew |= victim.refused;
        }
        if !grew {
            break;
        }
    }
    let mut outcome = Outcome::default();
    for victim in victims.iter_mut() {
        if victim.refused {
            page.refused_scan_hit.add(1);
            continue;
        }
        if let Some(blob) = victim.blob.take() {
            outcome.bytes += finish(device, victim, blob, ticket);
        }
    }
    outcome
}

fn named_blocks(hits: &scan::Hits) -> HashSet<u32> {
    let view = MAP.view();
    hits.iter().map(|&granule| view.at(granule)).filter(|&id| id != 0).collect()
}

fn extend(named: &mut HashSet<u32>, outgoing: &[u64]) -> bool {
    let view = MAP.view();
    let mut grew = false;
    for id in outgoing.iter().map(|&g| view.at(g)).filter(|&id| id != 0) {
        grew |= named.insert(id);
    }
    grew
}

/// What a refused victim without a copy names, read from the device.
fn extend_from_memory(
    device: &Device,
    block: &Block,
    named: &mut HashSet<u32>,
    ticket: &mut Ticket,
) -> bool {
    let view = MAP.view();
    let mut hits = scan::Hits::new();
    let work = ticket::work(ticket);
    let read = each_chunk(device, block, &mut work.staging, |_, bytes| {
        scan::words(bytes, view, &mut hits);
        Ok(())
    });
    if read.is_err() {
        // Unreadable: it could name anything, so every block counts as named.
        hits.extend((0..view.span() >> view.shift()).filter(|&g| view.at(g) != 0));
    }
    let hits: Vec<u64> = hits.into_iter().collect();
    extend(named, &hits)
}

/// Reads all mapped bytes of a block in address order, in pieces of whole pages.
fn each_chunk(
    device: &Device,
    block: &Block,
    staging: &mut [u8],
    mut f: impl FnMut(u64, &[u8]) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let ctx = fence::context_on(device.ordinal).ok_or(code::INVALID_CONTEXT)?;
    let runs = runs(&block.cold.lock().extents);
    let granule = device.sizes.granule;
    for (first, granules) in runs {
        let start = u64::from(first) * granule;
        let bytes = u64::from(granules) * granule;
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(STAGING as u64) as usize;
            scan::download(ctx, block.base() + start + at, &mut staging[..n])?;
            f(start + at, &staging[..n])?;
            at += n as u64;
        }
    }
    Ok(())
}

/// Copies a block to the host tier; with `verify:on` the stored pages are decoded again and
/// their hash compared before anybody relies on them.
fn copy_out(device: &Device, block: &Block, work: &mut Work) -> Result<Blob, CUresult> {
    let view = MAP.view();
    let mut blob = Blob { extents: runs(&block.cold.lock().extents), ..Blob::default() };
    let mut hits = scan::Hits::new();
    let check = config::get().verify != Verify::Restore;
    let mut decoded = [0u8; PAGE];
    let Work { arena, staging } = work;
    let copied = each_chunk(device, block, staging, |_, bytes| {
        scan::words(bytes, view, &mut hits);
        for original in bytes.chunks(PAGE) {
            let page = Page::encode(original);
            let slot = match page.stored_len() {
                0 => None,
                n => Some(arena.store(&original[..n]).ok_or(code::OUT_OF_MEMORY)?),
            };
            blob.pages.push((page, slot));
            if !check {
                continue;
            }
            let stored = slot.and_then(|s| arena.load(s, page.stored_len()));
            if !page.decode(stored, &mut decoded[..original.len()]) {
                stats::page().verify_failures.add(1);
                return Err(code::UNKNOWN);
            }
            stats::page().bytes_verified.add(original.len() as u64);
        }
        Ok(())
    });
    match copied {
        Ok(()) => {
            blob.outgoing = hits.into_iter().collect();
            Ok(blob)
        }
        Err(e) => {
            release_blob(Some(blob), work);
            Err(e)
        }
    }
}

/// Gives the host memory of a blob back.
pub fn release_blob(blob: Option<Blob>, work: &mut Work) {
    for slot in blob.into_iter().flat_map(|b| b.pages).filter_map(|(_, slot)| slot) {
        work.arena.release(slot);
    }
}

/// Unmaps a victim whose copy is complete; its physical bytes.
fn finish(device: &Device, victim: &Victim, blob: Blob, ticket: &mut Ticket) -> u64 {
    let block = victim.block;
    if block.word.apply_in(victim.word, Event::BeginUnmap).is_err() {
        release_blob(Some(blob), ticket::work(ticket));
        return 0;
    }
    let extents = std::mem::take(&mut block.cold.lock().extents);
    let granules = |extents: &[Extent]| extents.iter().map(|e| u64::from(e.handle.granules)).sum();
    let mut mapped: u64 = granules(&extents);
    match unmap_extents(device, block.base(), extents, ticket) {
        Ok(handles) => {
            let mut heap = device.heap.lock();
            handles.into_iter().for_each(|h| heap.pool.put(h));
        }
        Err((_, rest)) => {
            // What could not be unmapped stays mapped under the evicted block. Its bytes are in
            // the copy like all others; a restore keeps these extents and fills them again.
            mapped -= granules(&rest);
            block.cold.lock().extents = rest;
        }
    }
    let bytes = mapped * device.sizes.granule;
    block.uses.store(0, Ordering::Release);
    let page = stats::page();
    page.evictions.add(1);
    page.evicted_bytes.add(bytes);
    let mut cold = block.cold.lock();
    cold.blob = Some(blob);
    // Counted before the state shows it: a launch that sees EVICTED == 0 skips payload scans.
    EVICTED.fetch_add(1, Ordering::SeqCst);
    let _ = block.word.apply(Event::Spill);
    bytes
}
