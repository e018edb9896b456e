//! One group of victims: marked, coded and checked, unmapped.
//!
//! A block that nobody else names is unmapped part by part as its parts are coded, so that what is
//! coded first makes the room for what follows. Blocks that name each other go together or not at
//! all: all of them are coded before the first is unmapped.

use super::blob::{Blob, Kept, Page, Part, release, release_pages};
use super::block::{BLOCKS, Block, Extent};
use super::coder::{self, Fit, Home, Site};
use super::engine::{Device, EVICTED};
use super::evict::Homes;
use super::memory::{mapped_bytes, unmap_those};
use super::scan::Graph;
use super::state::{Event, Word};
use super::store;
use super::ticket::{self, Ticket};
use crate::driver::CUresult;
use crate::fault;
use crate::stats;
use std::sync::atomic::Ordering;

/// What came of a group.
#[derive(Debug, Default)]
pub struct Done {
    /// Physical bytes that were unmapped.
    pub bytes: u64,
    /// Those that stay.
    pub staying: Vec<u32>,
}

/// A block that is leaving.
struct Victim {
    id: u32,
    block: &'static Block,
    word: Word,
    blob: Blob,
    /// Of the part that is being coded.
    pages: Vec<Page>,
    fit: Fit,
    /// From here on its copy is all that counts.
    unmapping: bool,
}

/// The victims of one group. Those that are not being unmapped when it goes stay; the others are
/// away, with what was coded and the rest in place. After a panic as well.
struct Round<'a> {
    device: &'static Device,
    victims: Vec<Victim>,
    ticket: &'a mut Ticket,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        for victim in &mut self.victims {
            let blob = std::mem::take(&mut victim.blob);
            let work = ticket::work(self.ticket);
            // Half a copy is none: that part is in place.
            release_pages(victim.pages.drain(..), self.device.ordinal, work);
            if victim.unmapping {
                away(victim.block, blob, victim.fit);
            } else if victim.block.word.apply_in(victim.word, Event::CancelEvict).is_ok() {
                release(Some(blob), self.device.ordinal, work);
            }
        }
    }
}

impl Round<'_> {
    /// Lets a victim stay.
    fn cancel(&mut self, id: u32) {
        let Some(at) = self.victims.iter().position(|v| v.id == id) else { return };
        let victim = self.victims.swap_remove(at);
        if victim.block.word.apply_in(victim.word, Event::CancelEvict).is_ok() {
            release(Some(victim.blob), self.device.ordinal, ticket::work(self.ticket));
        }
    }
}

/// A victim that was being unmapped is away, with its copy.
fn away(block: &Block, mut blob: Blob, fit: Fit) {
    {
        let mut cold = block.cold.lock();
        let granules = |e: &Extent| (e.first, e.handle.granules);
        let rest = cold.extents.iter().map(granules);
        let coded =
            |first| blob.parts.iter().any(|p| (p.first..p.first + p.granules).contains(&first));
        let rest: Vec<_> = rest.filter(|&(first, _)| !coded(first)).collect();
        let part = |(first, granules)| Part { first, granules, pages: None };
        blob.parts.extend(rest.into_iter().map(part));
        blob.parts.sort_by_key(|part| part.first);
        cold.fit = fit;
        cold.blob = Some(blob);
    }
    block.uses.store(0, Ordering::Release);
    // Counted before the state shows it: a launch that sees EVICTED == 0 skips payload scans.
    EVICTED.fetch_add(1, Ordering::SeqCst);
    let on_device = block.cold.lock().blob.as_ref().is_some_and(Blob::is_on_device);
    let _ = block.word.apply(if on_device { Event::Compress } else { Event::Spill });
}

/// Evicts the blocks `ids`, as far as nothing keeps them.
pub fn evict(
    site: &mut Site,
    ids: &[u32],
    homes: Homes,
    graph: &Graph,
    ticket: &mut Ticket,
) -> Done {
    let mut done = Done::default();
    // Only the store is left for them, and it has gained nothing from one of them.
    let poor = |&id: &u32| {
        let block = BLOCKS.get(id);
        block.cold.lock().poor == Some(block.last_use.load(Ordering::Relaxed))
    };
    if !homes.host && ids.iter().any(poor) {
        done.staying.extend(ids);
        return done;
    }
    let mut round = Round { device: site.device, victims: Vec::with_capacity(ids.len()), ticket };
    // A block may have been pinned or freed by an allocating thread since: it stays.
    for &id in ids {
        let block = BLOCKS.get(id);
        match block.word.apply(Event::BeginEvict) {
            Ok(word) => {
                let fit = block.cold.lock().fit;
                let blob = Blob { outgoing: graph.granules_of(id), ..Blob::default() };
                round.victims.push(Victim {
                    id,
                    block,
                    word,
                    blob,
                    pages: Vec::new(),
                    fit,
                    unmapping: false,
                });
            }
            Err(_) => done.staying.push(id),
        }
    }
    fault::point("evict-marked", "");
    let together = ids.len() > 1;
    for i in 0..round.victims.len() {
        // In a group nothing is unmapped before everything is coded.
        let coded = code(site, &mut round, i, homes, !together, &mut done.bytes);
        let victim = &round.victims[i];
        let gains = victim.blob.parts.iter().any(|part| part.pages.is_some());
        if !gains && coded.is_ok() {
            let last = victim.block.last_use.load(Ordering::Relaxed);
            victim.block.cold.lock().poor = Some(last);
        }
        if !victim.unmapping && (coded.is_err() || !gains) {
            done.staying.push(victim.id);
        }
        fault::point("evict-copied", "");
    }
    if together {
        stay(&mut round, &mut done.staying, graph);
        for i in 0..round.victims.len() {
            done.bytes += unmap_all(site, &mut round, i);
        }
    }
    let Round { victims, ticket, .. } = &mut round;
    for victim in victims.iter_mut().filter(|v| v.unmapping) {
        store::settle(site.device, site.ctx, victim.blob.pages_mut(), ticket::work(ticket));
        stats::page().evictions.add(1);
        tracing::debug!(block = victim.id, device = site.device.ordinal, "evicted");
    }
    stats::page().evicted_bytes.add(done.bytes);
    drop(round);
    done
}

/// What stays is a root like any other: what it names stays too.
fn stay(round: &mut Round<'_>, staying: &mut Vec<u32>, graph: &Graph) {
    let mut next = 0;
    while let Some(&id) = staying.get(next) {
        next += 1;
        round.cancel(id);
        for named in graph.named_by(id) {
            if round.victims.iter().any(|v| v.id == named) && !staying.contains(&named) {
                stats::page().refused_scan_hit.add(1);
                staying.push(named);
            }
        }
    }
}

/// The parts that a block is coded and unmapped in: runs of handles, no larger than a segment of
/// the store unless one handle is.
fn parts(extents: &[Extent], most: u32) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for extent in extents {
        let granules = extent.handle.granules;
        match out.last_mut() {
            Some((first, n)) if *first + *n == extent.first && *n + granules <= most => {
                *n += granules;
            }
            _ => out.push((extent.first, granules)),
        }
    }
    out
}

/// Bytes of pages that have no place yet.
fn drafts(pages: &[Page]) -> u64 {
    let draft = |page: &Page| match &page.kept {
        Kept::Draft(bytes) => bytes.len() as u64,
        _ => 0,
    };
    pages.iter().map(draft).sum()
}

/// Codes a victim; with `unmap` each part is unmapped as soon as it is coded.
fn code(
    site: &mut Site,
    round: &mut Round<'_>,
    i: usize,
    homes: Homes,
    unmap: bool,
    bytes: &mut u64,
) -> Result<(), CUresult> {
    let granule = site.device.sizes.granule;
    let most = (site.device.limit / 32).clamp(128 << 10, 64 << 20) / granule;
    let parts = parts(&round.victims[i].block.cold.lock().extents, most as u32);
    // Of the whole group, where nothing is unmapped meanwhile.
    let others = round.victims.iter().flat_map(|v| &v.blob.parts).filter_map(|p| p.pages.as_ref());
    let mut waiting: u64 = if unmap { 0 } else { others.map(|pages| drafts(pages)).sum() };
    for (first, granules) in parts {
        if !site.on_device() {
            // What has left since may have made the room for the scratch.
            *site = Site::of(site.device, ticket::work(round.ticket))?;
        }
        let victim = &mut round.victims[i];
        let work = ticket::work(round.ticket);
        let from = victim.block.base() + u64::from(first) * granule;
        let whole = u64::from(granules) * granule;
        let first_home = match homes {
            Homes { host: true, host_first: true } => Home::Host,
            // The store cannot grow before something is unmapped, and that is not soon.
            Homes { host: true, .. } if !unmap => Home::Either,
            _ => Home::Store,
        };
        let mut gained = false;
        for home in [first_home, Home::Host] {
            if home == Home::Host && !homes.host {
                break;
            }
            let (pages, ordinal) = (&mut victim.pages, site.device.ordinal);
            if let Err(e) = coder::encode(site, from, whole, home, &mut victim.fit, work, pages) {
                release_pages(pages.drain(..), ordinal, work);
                return Err(e);
            }
            let stored: usize = pages.iter().map(|p| p.descriptor.stored()).sum();
            // What has no place yet waits in memory that nobody has allowed: only where there can be
            // a place, and no more than a part.
            let mut drafts = drafts(pages);
            if drafts > 0 && !unmap {
                drafts += waiting;
            }
            let hopeless = drafts > 0 && work.store(ordinal).next().is_none();
            gained = home == Home::Host
                || stored as u64 <= whole - whole / 16
                    && !hopeless
                    && (unmap || drafts <= most * granule);
            if gained {
                waiting = drafts;
            }
            if gained {
                break;
            }
            // On the device it would take the room that it leaves.
            release_pages(pages.drain(..), ordinal, work);
        }
        let pages = gained.then(|| std::mem::take(&mut victim.pages));
        victim.blob.parts.push(Part { first, granules, pages });
        if gained && unmap {
            *bytes += leave(site, round, i, first, granules)?;
        }
    }
    Ok(())
}

/// Unmaps a part whose copy is complete; its physical bytes. What cannot be unmapped stays mapped
/// under the evicted block: its bytes are in the copy like all others, and a restore keeps these
/// extents and fills them again.
fn leave(
    site: &Site,
    round: &mut Round<'_>,
    i: usize,
    first: u32,
    granules: u32,
) -> Result<u64, CUresult> {
    let victim = &mut round.victims[i];
    if !victim.unmapping {
        let begun = victim.block.word.apply_in(victim.word, Event::BeginUnmap);
        begun.map_err(|_| crate::driver::code::UNKNOWN)?;
        victim.unmapping = true;
    }
    let before = mapped_bytes(site.device, victim.block);
    let part = first..first + granules;
    let _ = unmap_those(site.device, victim.block, round.ticket, |e| part.contains(&e.first));
    fault::point("evict-unmapped", "");
    let victim = &mut round.victims[i];
    let bytes = before - mapped_bytes(site.device, victim.block);
    // Its memory is free now, so what had no place before may have one.
    let work = ticket::work(round.ticket);
    let here = victim.blob.parts.iter_mut().filter(|part| part.first == first);
    let pages = here.filter_map(|part| part.pages.as_mut()).flatten();
    store::settle(site.device, site.ctx, pages, work);
    Ok(bytes)
}

fn unmap_all(site: &Site, round: &mut Round<'_>, i: usize) -> u64 {
    let coded = |p: &Part| p.pages.is_some().then_some((p.first, p.granules));
    let parts: Vec<_> = round.victims[i].blob.parts.iter().filter_map(coded).collect();
    let leave = |(first, granules)| leave(site, round, i, first, granules).unwrap_or(0);
    parts.into_iter().map(leave).sum()
}
