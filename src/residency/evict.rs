//! Eviction: scan, copy out, check, unmap; all in the quiet.
//!
//! The protocol, under the ticket and while the world is stopped and fenced (`quiet.rs`): scan all
//! memory that can hold addresses; choose the coldest blocks that nothing which stays names, and
//! mark them EVICTING; copy each to the host tier and check the copy; unmap. Each victim is
//! evicted or resident again when this returns, so no launch can see a half-evicted block.

use super::block::{BLOCKS, Blob, Block, Kind};
use super::engine::{self, Device, EVICTED};
use super::memory::{mapped_bytes, runs, unmap_block};
use super::quiet::Quiet;
use super::scan::{Graph, Targets};
use super::state::{Event, State, Word};
use super::ticket::{self, STAGING, Ticket, Work};
use super::{fence, gauges, scan, verify};
use crate::codec::{PAGE, Page};
use crate::config::{self, Safety, Verify};
use crate::driver::{CUresult, code};
use crate::fault;
use crate::policy::{self, Candidate};
use crate::stats;
use crate::tier::{Arena, Refusal};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

struct Victim {
    id: u32,
    block: &'static Block,
    word: Word,
    /// Its copy; none if it stays.
    blob: Option<Blob>,
}

/// What an eviction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something evicted has to come back.
    Restore,
    /// Anything else: something new, free memory ahead of time, the user's word.
    Room,
}

/// Evicts about `need` bytes of `device`, coldest first; the physical bytes that came free.
pub fn evict(
    device: &'static Device,
    need: u64,
    why: Why,
    ticket: &mut Ticket,
    quiet: &Quiet,
) -> u64 {
    evict_some(device, need, why, ticket, quiet, |_| true)
}

/// As [`evict`], only blocks that `which` accepts.
pub fn evict_some(
    device: &'static Device,
    need: u64,
    why: Why,
    ticket: &mut Ticket,
    _quiet: &Quiet,
    which: impl Fn(u32) -> bool,
) -> u64 {
    if !engine::armed() {
        return 0;
    }
    let candidates = candidates(device, which);
    let started = Instant::now();
    let Ok(graph) = look(&candidates, ticket::work(ticket)) else { return 0 };
    let chosen = affordable(&candidates, need, why, &graph, ticket::work(ticket));
    if chosen.is_empty() {
        stats::page().refused_nothing_cold.add(1);
        return 0;
    }
    // A block may have been pinned or freed by an allocating thread since: it stays.
    let mut staying = Vec::new();
    let mut victims: Vec<Victim> = Vec::with_capacity(chosen.len());
    for id in chosen {
        let block = BLOCKS.get(id);
        match block.word.apply(Event::BeginEvict) {
            Ok(word) => victims.push(Victim { id, block, word, blob: None }),
            Err(_) => staying.push(id),
        }
    }
    let mut round = Round { victims, ticket };
    fault::point("evict-marked", "");
    let bytes = move_out(device, &mut round, staying, &graph);
    drop(round);
    gauges::publish_host(&ticket::work(ticket).arena);
    if bytes > 0 {
        let page = stats::page();
        page.eviction_ns.add(started.elapsed().as_nanos() as u64);
        crate::say::first_eviction(bytes, started.elapsed());
    }
    bytes
}

/// The victims of one eviction. Those that are not unmapped when it goes stay, after a panic as well.
struct Round<'a> {
    victims: Vec<Victim>,
    ticket: &'a mut Ticket,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        for victim in &mut self.victims {
            if victim.block.word.apply_in(victim.word, Event::CancelEvict).is_ok() {
                release_blob(victim.blob.take(), ticket::work(self.ticket));
            }
        }
    }
}

/// Who names whom among the candidates, and what is named from elsewhere.
fn look(candidates: &[Candidate], work: &mut Work) -> Result<Graph, CUresult> {
    if candidates.is_empty() || config::get().safety == Safety::Params {
        return Ok(Graph::default());
    }
    let started = Instant::now();
    let ids: HashSet<u32> = candidates.iter().map(|c| c.id).collect();
    let graph = scan::graph(&ids, work)?;
    let page = stats::page();
    page.scans.add(1);
    page.scan_ns.add(started.elapsed().as_nanos() as u64);
    tracing::debug!(candidates = ids.len(), took = ?started.elapsed(), "scanned");
    Ok(graph)
}

/// The coldest candidates that nothing else names, about `need` bytes of them, as far as there is
/// host memory for their bytes.
///
/// Where both memories are full nothing could come back any more: it would need device memory,
/// whose owners would need host memory, which only it could give. So an eviction that makes room
/// for something new leaves enough free slots in the arena to change the largest evicted block
/// for others; only a restore may take them, and it gives its own back.
fn affordable(
    candidates: &[Candidate],
    need: u64,
    why: Why,
    graph: &Graph,
    work: &mut Work,
) -> Vec<u32> {
    let namers = graph.namers();
    let restore = why == Why::Restore;
    let largest_away = if restore { 0 } else { largest_away() };
    let mut candidates = candidates.to_vec();
    let mut need = need;
    loop {
        let choice = policy::choose(&candidates, need, &graph.held, &namers);
        stats::page().refused_scan_hit.add(choice.named);
        if choice.bytes == 0 {
            return Vec::new();
        }
        let largest = candidates.iter().filter(|c| choice.ids.contains(&c.id)).map(|c| c.bytes);
        let largest = largest.max().unwrap_or(0);
        let kept = if restore { 0 } else { slots(largest.max(largest_away)) };
        match work.arena.make_room(slots(choice.bytes) + kept, config::host::headroom) {
            Ok(()) => {
                if !restore {
                    work.arena.keep(kept);
                }
                return choice.ids;
            }
            Err(refusal) => say_why(&refusal),
        }
        stats::page().refused_no_host_memory.add(1);
        need = need.min(choice.bytes) / 2;
        // A smaller one may still fit.
        candidates.retain(|c| c.bytes < largest || c.bytes <= need);
    }
}

/// Slots of the arena for so many bytes.
fn slots(bytes: u64) -> usize {
    bytes.div_ceil(PAGE as u64) as usize
}

/// Bytes of the largest block that is away.
fn largest_away() -> u64 {
    let mut largest = 0;
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if block.word.load().state().is_evicted() {
            let cold = block.cold.lock();
            largest = largest.max(cold.blob.as_ref().map_or(0, |b| b.pages.len() * PAGE));
        }
    }
    largest as u64
}

/// One line for each way in which host memory ends.
fn say_why(refusal: &Refusal) {
    match refusal {
        Refusal::Limit => crate::say::once(
            "host-limit",
            "the host memory for evicted bytes is used up (host_limit); evicting less",
        ),
        Refusal::Machine => crate::say::once(
            "host-machine",
            "the machine or its control group has no more host memory to spare; evicting less",
        ),
        Refusal::System(e) => crate::say::once(
            "host-system",
            &format!("no more host memory for evicted bytes: {e}; evicting less"),
        ),
    }
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
        let bytes = mapped_bytes(device, block);
        if bytes > 0 {
            out.push(Candidate { id, bytes, last_use: block.last_use.load(Ordering::Relaxed) });
        }
    }
    out
}

/// The fenced part: nothing runs, nothing starts. `staying` are chosen blocks that stay after all.
fn move_out(
    device: &'static Device,
    round: &mut Round<'_>,
    mut staying: Vec<u32>,
    graph: &Graph,
) -> u64 {
    let Round { victims, ticket } = round;
    for victim in victims.iter_mut() {
        match copy_out(device, victim.block, ticket::work(ticket)) {
            Ok(blob) => victim.blob = Some(blob),
            Err(_) => staying.push(victim.id),
        }
        fault::point("evict-copied", "");
    }
    // What stays is a root like any other: what it names stays too.
    while let Some(id) = staying.pop() {
        for named in graph.named_by(id) {
            let hit = victims.iter_mut().find(|v| v.id == named && v.blob.is_some());
            if let Some(victim) = hit {
                release_blob(victim.blob.take(), ticket::work(ticket));
                stats::page().refused_scan_hit.add(1);
                staying.push(named);
            }
        }
    }
    let mut bytes = 0;
    for victim in victims.iter_mut() {
        if let Some(blob) = victim.blob.take() {
            bytes += finish(device, victim, blob, ticket);
        }
    }
    bytes
}

/// Reads all mapped bytes of a block in address order, in pieces of whole pages: calls `f` with a
/// context, where the piece is and its bytes.
fn each_chunk(
    device: &Device,
    block: &Block,
    staging: &mut [u8],
    mut f: impl FnMut(usize, u64, &[u8]) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let ctx = fence::context_on(device.ordinal).ok_or(code::INVALID_CONTEXT)?;
    let runs = runs(&block.cold.lock().extents);
    let granule = device.sizes.granule;
    for (first, granules) in runs {
        let start = block.base() + u64::from(first) * granule;
        let bytes = u64::from(granules) * granule;
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(STAGING as u64) as usize;
            scan::download(ctx, start + at, &mut staging[..n])?;
            f(ctx, start + at, &staging[..n])?;
            at += n as u64;
        }
    }
    Ok(())
}

/// A copy in the making: what it has stored goes again unless it is completed.
struct Draft<'a> {
    blob: Blob,
    arena: &'a mut Arena,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        release_pages(&mut self.blob, self.arena);
    }
}

/// Copies a block to the host tier; with `verify:on` the stored pages are decoded again, the
/// originals read once more, and both hashes compared before anybody relies on the copy.
fn copy_out(device: &Device, block: &Block, work: &mut Work) -> Result<Blob, CUresult> {
    let targets = Targets::now();
    let blob = Blob { extents: runs(&block.cold.lock().extents), ..Blob::default() };
    let mut hits = scan::Hits::default();
    let check = config::get().verify != Verify::Restore;
    let mut decoded = [0u8; PAGE];
    let Work { arena, staging, back } = work;
    let pages = mapped_bytes(device, block).div_ceil(PAGE as u64) as usize;
    let mut draft = Draft { blob, arena };
    // The largest piece of bookkeeping; a program without memory must not be ended for it. Runs
    // that are no whole pages need a few more.
    let most = pages + draft.blob.extents.len();
    draft.blob.pages.try_reserve(most).map_err(|_| code::OUT_OF_MEMORY)?;
    each_chunk(device, block, staging, |ctx, at, bytes| {
        fault::point("evict-copying", "");
        hits.add(bytes, targets);
        let before = draft.blob.pages.len();
        for original in bytes.chunks(PAGE) {
            let page = Page::encode(original);
            let slot = match page.stored_len() {
                0 => None,
                n => Some(draft.arena.store(&original[..n]).ok_or(code::OUT_OF_MEMORY)?),
            };
            draft.blob.pages.push((page, slot));
            if !check {
                continue;
            }
            let stored = slot.and_then(|s| draft.arena.load(s, page.stored_len()));
            if !page.decode(stored, &mut decoded[..original.len()]) {
                verify::distrust();
                return Err(code::UNKNOWN);
            }
        }
        if check {
            let pages = draft.blob.pages[before..].iter().map(|(page, _)| page);
            if !verify::read_back(ctx, at, pages, &mut back[..bytes.len()])? {
                verify::distrust();
                return Err(code::UNKNOWN);
            }
            stats::page().bytes_verified.add(bytes.len() as u64);
        }
        Ok(())
    })?;
    hits.expose();
    draft.blob.outgoing = hits.granules.into_iter().collect();
    Ok(std::mem::take(&mut draft.blob))
}

/// Gives the host memory of a blob back.
pub fn release_blob(blob: Option<Blob>, work: &mut Work) {
    if let Some(mut blob) = blob {
        release_pages(&mut blob, &mut work.arena);
    }
}

fn release_pages(blob: &mut Blob, arena: &mut Arena) {
    for slot in blob.pages.drain(..).filter_map(|(_, slot)| slot) {
        arena.release(slot);
    }
}

/// A victim that is being unmapped: its copy is all that counts from here on, so it ends SPILLED
/// whatever happens.
struct Spilling(&'static Block);

impl Drop for Spilling {
    fn drop(&mut self) {
        self.0.uses.store(0, Ordering::Release);
        // Counted before the state shows it: a launch that sees EVICTED == 0 skips payload scans.
        EVICTED.fetch_add(1, Ordering::SeqCst);
        let _ = self.0.word.apply(Event::Spill);
    }
}

/// Unmaps a victim whose copy is complete; its physical bytes.
fn finish(device: &Device, victim: &Victim, blob: Blob, ticket: &mut Ticket) -> u64 {
    let block = victim.block;
    if block.word.apply_in(victim.word, Event::BeginUnmap).is_err() {
        release_blob(Some(blob), ticket::work(ticket));
        return 0;
    }
    let spilling = Spilling(block);
    block.cold.lock().blob = Some(blob);
    let before = mapped_bytes(device, block);
    // What could not be unmapped stays mapped under the evicted block. Its bytes are in the copy
    // like all others; a restore keeps these extents and fills them again.
    let _ = unmap_block(device, block, ticket);
    fault::point("evict-unmapped", "");
    let bytes = before - mapped_bytes(device, block);
    drop(spilling);
    let page = stats::page();
    page.evictions.add(1);
    page.evicted_bytes.add(bytes);
    tracing::debug!(block = victim.id, bytes, device = device.ordinal, "evicted");
    bytes
}
