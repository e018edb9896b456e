//! Eviction: scan, choose, code, check, unmap; all in the quiet.
//!
//! The protocol, under the ticket and while the world is stopped and fenced (`quiet.rs`): scan all
//! memory that can hold addresses; take the coldest blocks that nothing which stays names, group
//! by group (`round.rs`), until there is as much as was wanted. Each victim is evicted or resident
//! again when this returns, so no launch can see a half-evicted block.

use super::block::{BLOCKS, Kind};
use super::coder::Site;
use super::engine::{self, Device};
use super::memory::{self, mapped_bytes};
use super::quiet::Quiet;
use super::round;
use super::scan::Graph;
use super::state::State;
use super::ticket::{self, Ticket, Work};
use super::{gauges, scan, store};
use crate::codec::PAGE;
use crate::config::{self, Safety};
use crate::driver::CUresult;
use crate::policy::{Candidate, Victims};
use crate::stats;
use crate::tier::Refusal;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What an eviction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something evicted has to come back.
    Restore,
    /// Something new, or free memory ahead of time.
    Room,
    /// The user's word: what is idle leaves the device.
    Word,
}

/// Where a group may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Homes {
    /// To the host tier, which has room for all of it as it is.
    pub host: bool,
    /// There first.
    pub host_first: bool,
}

/// Evicts, coldest first, until `want` bytes of `device` can be handed out; the physical bytes that
/// came free.
pub fn evict(
    device: &'static Device,
    want: u64,
    why: Why,
    ticket: &mut Ticket,
    quiet: &Quiet,
) -> u64 {
    evict_some(device, want, why, ticket, quiet, |_| true)
}

/// As [`evict`], only blocks that `which` accepts.
pub fn evict_some(
    device: &'static Device,
    want: u64,
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
    let Ok(mut site) = Site::of(device, ticket::work(ticket)) else { return 0 };
    let before = memory::available(device);
    let namers = graph.namers();
    let mut order = Victims::new(&candidates, &graph.held, &namers);
    let mut bytes = 0;
    while !enough(device, want, why, ticket::work(ticket)) {
        let Some(group) = order.next() else { break };
        let homes = homes(device, &group, why, &site, ticket::work(ticket));
        let done = round::evict(&mut site, &group, homes, &graph, ticket);
        bytes += done.bytes;
        order.stay(&done.staying);
    }
    stats::page().refused_scan_hit.add(order.named());
    if bytes == 0 {
        stats::page().refused_nothing_cold.add(1);
    }
    squeeze(&site, want, why, ticket::work(ticket));
    gauges::publish_tiers(ticket::work(ticket));
    if bytes > 0 {
        let page = stats::page();
        page.eviction_ns.add(started.elapsed().as_nanos() as u64);
        let freed = memory::available(device).saturating_sub(before);
        crate::say::first_eviction(bytes, started.elapsed());
        tracing::debug!(bytes, freed, took = ?started.elapsed(), "eviction over");
    }
    bytes
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

/// Whether `want` bytes can be handed out, and what something new must leave on top of that.
///
/// Where both memories are full nothing could come back any more: it would need device memory,
/// whose owners would need a place to go, which only it could give. So something new leaves enough
/// to change the largest evicted block for others: room in the host tier, and where that cannot be
/// had free device memory. Only a restore may take it, and it gives its own back.
fn enough(device: &Device, want: u64, why: Why, work: &mut Work) -> bool {
    let free = memory::available(device);
    if why == Why::Restore {
        return free >= want;
    }
    free >= want.saturating_add(keep_exchange(device, work))
}

/// Makes sure of that room and notes how much device memory it takes.
pub fn keep_exchange(device: &Device, work: &mut Work) -> u64 {
    let largest = largest_away(device);
    let pages = pages(largest);
    let reserve = match work.arena.make_room(pages, config::host::headroom) {
        Ok(()) => {
            work.arena.keep(pages);
            0
        }
        Err(_) => largest,
    };
    device.reserve.store(reserve, Ordering::Release);
    reserve
}

/// Where a group may go without taking what the next restore needs.
fn homes(device: &Device, group: &[u32], why: Why, site: &Site, work: &mut Work) -> Homes {
    let each = |&id: &u32| mapped_bytes(device, BLOCKS.get(id));
    let own: u64 = group.iter().map(each).sum();
    let largest = group.iter().map(each).max().unwrap_or(0);
    let kept = if why == Why::Restore { 0 } else { pages(largest.max(largest_away(device))) };
    let host = match work.arena.make_room(pages(own) + kept, config::host::headroom) {
        Ok(()) => true,
        Err(refusal) => {
            // Where there is to be no host memory at all that is no news.
            if work.arena.limit() > 0 {
                say_why(&refusal);
            }
            stats::page().refused_no_host_memory.add(1);
            false
        }
    };
    let host_first = why == Why::Word || !site.on_device() || !store::has_share(device, work);
    Homes { host, host_first }
}

/// Pages of the arena for so many bytes.
fn pages(bytes: u64) -> usize {
    bytes.div_ceil(PAGE as u64) as usize
}

/// Device memory that the largest block which is away needs to come back.
fn largest_away(device: &Device) -> u64 {
    let away = |id: u32| {
        let block = BLOCKS.get(id);
        if block.device() != device.ordinal || !block.word.load().state().is_evicted() {
            return 0;
        }
        block.cold.lock().blob.as_ref().map_or(0, |blob| blob.granules())
    };
    BLOCKS.ids().map(away).max().unwrap_or(0) * device.sizes.granule
}

/// What is left where victims alone are not enough: gaps in the store, and the host tier for what
/// is in it.
fn squeeze(site: &Site, want: u64, why: Why, work: &mut Work) {
    let device = site.device;
    store::shrink(device, work);
    if enough(device, want, why, work) || work.store(device.ordinal).used() == 0 {
        return;
    }
    store::compact(site, work);
    let kept = if why == Why::Restore { 0 } else { pages(largest_away(device)) };
    // Nobody waits for more than there is. Segments that are not quite empty give nothing back, so
    // more than once.
    while want <= device.limit && work.arena.limit() > 0 && !enough(device, want, why, work) {
        let (used, missing) =
            (work.store(device.ordinal).used(), want.saturating_sub(memory::available(device)));
        store::spill(site, missing, kept, work);
        store::compact(site, work);
        if work.store(device.ordinal).used() >= used {
            break;
        }
    }
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
