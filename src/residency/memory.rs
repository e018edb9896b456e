//! Physical memory for blocks, under the limit.
//!
//! Order at the limit: pool, freed blocks whose streams have passed, quiet (which every freed block
//! has then passed), evict, out of memory; pooled handles of the wrong size are converted whenever
//! that is enough. Every wait is bounded, and so is the whole (`patience.rs`).

use super::block::{Block, Extent};
use super::engine::Device;
use super::evict::Why;
use super::freed::{catch_up, retire};
use super::patience::{self, Effort, patiently};
use super::ticket::{self, Ticket};
use super::{evict, quiet, submit};
use crate::driver::{CUresult, code};
use crate::fault;
use crate::registry::globals;
use crate::stats;
use crate::vmm::{self, Handle};
use std::sync::atomic::Ordering;

/// Why handles could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    /// The limit is reached.
    Limit,
    /// The card is full.
    Card,
    /// The driver said something else.
    Driver(CUresult),
}

/// Bytes that can be handed out under the limit: pooled, and not yet charged.
pub fn available(device: &Device) -> u64 {
    device.limit.saturating_sub(device.charged.load(Ordering::Acquire)) + pooled(device)
}

/// Handles for our own purposes, if they are there.
pub fn spare(device: &Device, granules: u32) -> Option<Vec<Handle>> {
    create(device, granules, false).ok()
}

/// Puts handles that are mapped nowhere into the pool.
pub fn pool(device: &Device, handles: Vec<Handle>) {
    let mut heap = device.heap.lock();
    handles.into_iter().for_each(|h| heap.pool.put(h));
}

/// As [`create`] for something new, which leaves what evicted blocks need to change places.
fn create_new(device: &Device, granules: u32) -> Result<Vec<Handle>, Shortage> {
    let reserve = device.reserve.load(Ordering::Acquire);
    let bytes = u64::from(granules) * device.sizes.granule;
    if reserve > 0 && available(device) < bytes + reserve {
        return Err(Shortage::Limit);
    }
    create(device, granules, false)
}

/// Handles for `granules`, from the pool and the driver; all or nothing.
fn create(device: &Device, granules: u32, exceed: bool) -> Result<Vec<Handle>, Shortage> {
    let granule = device.sizes.granule;
    let mut handles = device.heap.lock().pool.take_up_to(granules);
    let missing = granules - handles.iter().map(|h| h.granules).sum::<u32>();
    if missing == 0 {
        return Ok(handles);
    }
    if !device.charge(u64::from(missing) * granule, exceed) {
        pool(device, handles);
        return Err(Shortage::Limit);
    }
    let mut made = 0;
    for class in vmm::split(missing) {
        match vmm::create(device.ordinal, (u64::from(class) * granule) as usize) {
            Ok(raw) => {
                handles.push(Handle { raw, granules: class });
                made += class;
            }
            Err(e) => {
                device.uncharge(u64::from(missing - made) * granule);
                pool(device, handles);
                let full = e == code::OUT_OF_MEMORY;
                return Err(if full { Shortage::Card } else { Shortage::Driver(e) });
            }
        }
    }
    Ok(handles)
}

/// Handles for `granules`, rescuing memory where needed.
pub fn acquire(device: &'static Device, granules: u32) -> Result<Vec<Handle>, CUresult> {
    catch_up(device, granules);
    let made = match at_once(device, granules, Why::Room, false) {
        Ok(None) => patiently(patience::deadline(), false, |ticket, effort| {
            rescue(device, granules, Why::Room, ticket, effort)
        }),
        Ok(Some(handles)) => return Ok(handles),
        Err(e) => Err(e),
    };
    made.inspect_err(|&e| stats::page().oom_returned.add(u64::from(e == code::OUT_OF_MEMORY)))
}

/// As [`acquire`] for a restore, which holds the ticket: one try. NOT_READY asks for another one after the
/// ticket and all pins were let go.
pub fn acquire_with(
    device: &'static Device,
    granules: u32,
    ticket: &mut Ticket,
    effort: Effort,
) -> Result<Vec<Handle>, CUresult> {
    match at_once(device, granules, Why::Restore, effort.exceed)? {
        Some(handles) => Ok(handles),
        None => rescue(device, granules, Why::Restore, ticket, effort),
    }
}

/// What needs no rescue, or what no rescue can give.
fn at_once(
    device: &Device,
    granules: u32,
    why: Why,
    exceed: bool,
) -> Result<Option<Vec<Handle>>, CUresult> {
    let made = attempt(device, granules, why)?;
    if made.is_none() {
        device.pressed.store(true, Ordering::Relaxed);
        let bytes = u64::from(granules) * device.sizes.granule;
        if bytes > device.card.min(if exceed { u64::MAX } else { device.limit }) {
            return Err(code::OUT_OF_MEMORY);
        }
    }
    Ok(made)
}

/// One try to find memory; NOT_READY when a later one may find more.
fn rescue(
    device: &'static Device,
    granules: u32,
    why: Why,
    ticket: &mut Ticket,
    effort: Effort,
) -> Result<Vec<Handle>, CUresult> {
    let need = u64::from(granules) * device.sizes.granule;
    tracing::debug!(device = device.ordinal, bytes = need, "short of memory");
    fault::point("rescue", "");
    // Asked before looking for what is not pinned: who lets go in between counts.
    let awaited = submit::others_hold_pins();
    retire(device, ticket);
    evict::keep_exchange(device, ticket::work(ticket));
    if let Some(handles) = attempt_converting(device, granules, why)? {
        return Ok(handles);
    }
    let again = if effort.patience.is_zero() {
        false
    } else {
        match quiet::reach(effort.patience, ticket) {
            Ok(Some(quiet)) => {
                // The fence had to be waited for anyway: what was freed goes before what is alive.
                retire(device, ticket);
                if let Some(handles) = attempt_converting(device, granules, why)? {
                    return Ok(handles);
                }
                let turns = globals::turns();
                // A little more than asked, so that the next allocation need not stop the world again;
                // not where each byte that comes free costs the coding of several.
                let host = ticket::work(ticket).arena.limit() > 0;
                let batch = if host { need.max(device.limit / 8) } else { need };
                let evicted = evict::evict(device, batch, why, ticket, &quiet);
                if let Some(handles) = attempt_converting(device, granules, why)? {
                    stats::page().oom_avoided.add(u64::from(evicted > 0));
                    return Ok(handles);
                }
                // What is pooled goes too if that is not enough: it may be what the card lacks.
                if convert(device, granules)
                    && let Some(handles) = attempt(device, granules, why)?
                {
                    return Ok(handles);
                }
                // Blocks that other operations hold pinned come free when those are submitted; what a
                // module that is being unloaded names is known when it has gone.
                evicted > 0 || awaited || turns.is_none() || turns != globals::turns()
            }
            Ok(None) => true,
            // No fence there can cover everything: nothing is ever evicted.
            Err(code::NOT_SUPPORTED) => false,
            Err(e) => return Err(e),
        }
    };
    if again {
        return Err(code::NOT_READY);
    }
    if effort.exceed
        && let Ok(handles) = create(device, granules, true)
    {
        stats::page().over_limit_launches.add(1);
        crate::say::once(
            "over-limit",
            "one operation needs more than the limit at once; the limit is passed for it",
        );
        return Ok(handles);
    }
    Err(code::OUT_OF_MEMORY)
}

fn attempt(device: &Device, granules: u32, why: Why) -> Result<Option<Vec<Handle>>, CUresult> {
    let made = match why {
        Why::Restore => create(device, granules, false),
        Why::Room | Why::Word => create_new(device, granules),
    };
    match made {
        Ok(handles) => Ok(Some(handles)),
        Err(Shortage::Driver(e)) => Err(e),
        Err(_) => Ok(None),
    }
}

/// As [`attempt`]; where the pool has room enough but in handles of the wrong size, those are given
/// back to the driver first.
fn attempt_converting(
    device: &Device,
    granules: u32,
    why: Why,
) -> Result<Option<Vec<Handle>>, CUresult> {
    if let Some(handles) = attempt(device, granules, why)? {
        return Ok(Some(handles));
    }
    let enough = available(device) >= u64::from(granules) * device.sizes.granule;
    if enough && convert(device, granules) { attempt(device, granules, why) } else { Ok(None) }
}

/// Gives pooled handles back to the driver, so that others can be made; true if there were any.
fn convert(device: &Device, granules: u32) -> bool {
    let drained = device.heap.lock().pool.drain_at_least(u64::from(granules));
    let any = release_all(device, drained);
    if any {
        stats::page().pool_converted.add(1);
    }
    any
}

/// What the driver refuses to take stays in the pool, for the next time.
fn release_all(device: &Device, handles: Vec<Handle>) -> bool {
    let mut any = false;
    for handle in handles {
        if vmm::release(handle.raw).is_ok() {
            device.uncharge(u64::from(handle.granules) * device.sizes.granule);
            any = true;
        } else {
            device.heap.lock().pool.put(handle);
        }
    }
    any
}

/// Gives all pooled handles back; for a context that goes away and for idle times.
pub fn empty_pool(device: &Device) {
    let drained = device.heap.lock().pool.drain_at_least(u64::MAX);
    release_all(device, drained);
}

/// Maps `handles` one after another from granule `first` of the block and gives access. On
/// failure everything mapped here is unmapped again and the handles are pooled.
pub fn map_run(
    device: &Device,
    base: u64,
    first: u32,
    handles: &[Handle],
) -> Result<Vec<Extent>, CUresult> {
    let granule = device.sizes.granule;
    let start = base + u64::from(first) * granule;
    let mut extents = Vec::with_capacity(handles.len());
    let mut at = first;
    let mut failed = None;
    for &handle in handles {
        let bytes = (u64::from(handle.granules) * granule) as usize;
        if let Err(e) = vmm::map(base + u64::from(at) * granule, bytes, handle.raw) {
            failed = Some(e);
            break;
        }
        extents.push(Extent { first: at, handle });
        at += handle.granules;
    }
    let mapped = u64::from(at - first) * granule;
    if failed.is_none() {
        let access = device.access.load(Ordering::Acquire);
        failed = vmm::set_access(start, mapped as usize, access).err();
    }
    let Some(e) = failed else { return Ok(extents) };
    let unmap = || vmm::unmap(start, mapped as usize);
    if mapped > 0 && unmap().or_else(|_| unmap()).is_err() {
        // Still mapped and unusable: the handles are lost to us, but nobody can reach them.
        return Err(e);
    }
    let mut heap = device.heap.lock();
    handles.iter().for_each(|&h| heap.pool.put(h));
    Err(e)
}

/// Unmaps a block run by run; its handles go to the pool. Only with the ticket. What is left when it
/// fails, or is left by a panic, is still mapped and still the block's.
pub fn unmap_block(device: &Device, block: &Block, ticket: &mut Ticket) -> Result<(), CUresult> {
    unmap_those(device, block, ticket, |_| true)
}

/// As [`unmap_block`], only what `which` accepts.
pub fn unmap_those(
    device: &Device,
    block: &Block,
    _ticket: &mut Ticket,
    which: impl Fn(&Extent) -> bool,
) -> Result<(), CUresult> {
    let granule = device.sizes.granule;
    loop {
        let run = {
            let cold = block.cold.lock();
            let skipped = cold.extents.iter().take_while(|e| !which(e)).count();
            let wanted = cold.extents[skipped..].iter().take_while(|e| which(e)).count();
            first_run(&cold.extents[skipped..skipped + wanted]).map(|run| (skipped, run))
        };
        let Some((skipped, (start, granules, n))) = run else { return Ok(()) };
        let at = block.base() + u64::from(start) * granule;
        vmm::unmap(at, (u64::from(granules) * granule) as usize)?;
        let mut heap = device.heap.lock();
        let mut cold = block.cold.lock();
        cold.extents.drain(skipped..skipped + n).for_each(|extent| heap.pool.put(extent.handle));
    }
}

/// The first contiguous run of sorted extents: first granule, granules, extents in it.
fn first_run(extents: &[Extent]) -> Option<(u32, u32, usize)> {
    let start = extents.first()?.first;
    let mut end = start;
    let mut n = 0;
    for extent in extents {
        if extent.first != end {
            break;
        }
        end += extent.handle.granules;
        n += 1;
    }
    Some((start, end - start, n))
}

/// The contiguous runs of sorted extents: (first granule, granules).
pub fn runs(extents: &[Extent]) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    let mut left = extents;
    while let Some((start, granules, n)) = first_run(left) {
        out.push((start, granules));
        left = &left[n..];
    }
    out
}

/// Physical bytes of a block.
pub fn mapped_bytes(device: &Device, block: &Block) -> u64 {
    let granules: u64 =
        block.cold.lock().extents.iter().map(|e| u64::from(e.handle.granules)).sum();
    granules * device.sizes.granule
}

/// Bytes in the pool.
pub fn pooled(device: &Device) -> u64 {
    device.heap.lock().pool.granules() * device.sizes.granule
}
