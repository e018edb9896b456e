//! Physical memory for blocks, under the limit.
//!
//! Order at the limit: pool, freed blocks whose streams have passed, evict, wait for freed
//! blocks, convert pooled handles, out of memory. Every wait is bounded; the whole rescue ends
//! within `restore_wait`.

use super::block::{BLOCKS, Block, Extent, Kind};
use super::engine::{Device, Heap};
use super::state::{Event, State};
use super::ticket::{self, Ticket};
use super::{engine, evict, fence};
use crate::driver::{CUresult, code};
use crate::heap::MAP;
use crate::vmm::{self, Handle};
use crate::{config, stats};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest single wait for the device inside a rescue.
pub const PATIENCE: Duration = Duration::from_millis(250);

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

/// Handles for `granules`, from the pool and the driver; all or nothing.
fn create(device: &Device, granules: u32, exceed: bool) -> Result<Vec<Handle>, Shortage> {
    let granule = device.sizes.granule;
    let mut handles = device.heap.lock().pool.take_up_to(granules);
    let missing = granules - handles.iter().map(|h| h.granules).sum::<u32>();
    if missing == 0 {
        return Ok(handles);
    }
    let put_back = |handles: Vec<Handle>| {
        let mut heap = device.heap.lock();
        handles.into_iter().for_each(|h| heap.pool.put(h));
    };
    if !device.charge(u64::from(missing) * granule, exceed) {
        put_back(handles);
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
                put_back(handles);
                let full = e == code::OUT_OF_MEMORY;
                return Err(if full { Shortage::Card } else { Shortage::Driver(e) });
            }
        }
    }
    Ok(handles)
}

/// Handles for `granules`, rescuing memory where needed. `held` is the caller's ticket, if it
/// has one. `exceed` allows passing the limit as a last resort (a launch's own set).
pub fn acquire(
    device: &'static Device,
    granules: u32,
    held: Option<&mut Ticket>,
    exceed: bool,
) -> Result<Vec<Handle>, CUresult> {
    match create(device, granules, false) {
        Ok(handles) => return Ok(handles),
        Err(Shortage::Driver(e)) => return Err(e),
        Err(Shortage::Limit | Shortage::Card) => {}
    }
    device.pressed.store(true, Ordering::Relaxed);
    let bytes = u64::from(granules) * device.sizes.granule;
    if bytes > device.card.min(if exceed { u64::MAX } else { device.limit }) {
        return out_of_memory();
    }
    let mut own;
    let ticket = match held {
        Some(ticket) => ticket,
        None => {
            let Some(taken) = ticket::take() else { return out_of_memory() };
            own = taken;
            &mut own
        }
    };
    rescue(device, granules, ticket, exceed)
}

fn out_of_memory<T>() -> Result<T, CUresult> {
    stats::page().oom_returned.add(1);
    Err(code::OUT_OF_MEMORY)
}

fn rescue(
    device: &'static Device,
    granules: u32,
    ticket: &mut Ticket,
    exceed: bool,
) -> Result<Vec<Handle>, CUresult> {
    let need = u64::from(granules) * device.sizes.granule;
    // A little more than asked, so that the next allocation need not stop the world again.
    let batch = need.max(device.limit / 16);
    let deadline = Instant::now() + config::get().restore_wait;
    let mut patience = PATIENCE;
    loop {
        let mut progress = retire_condemned(device, ticket) | retire_warm(device, ticket, false);
        if let Some(handles) = attempt(device, granules)? {
            return Ok(handles);
        }
        let outcome = evict::evict(device, batch, ticket, patience);
        progress |= outcome.bytes > 0;
        if let Some(handles) = attempt(device, granules)? {
            stats::page().oom_avoided.add(1);
            return Ok(handles);
        }
        progress |= wait_limbo(device, ticket, patience);
        if let Some(handles) = attempt(device, granules)? {
            return Ok(handles);
        }
        progress |= convert(device, granules);
        if let Some(handles) = attempt(device, granules)? {
            return Ok(handles);
        }
        if !progress && !outcome.try_again || Instant::now() >= deadline {
            break;
        }
        // Work that is queued deeper than one patience needs a longer look.
        patience = (patience * 2).min(Duration::from_secs(4));
    }
    if exceed {
        if let Ok(handles) = create(device, granules, true) {
            stats::page().over_limit_launches.add(1);
            crate::say::once(
                "over-limit",
                "one operation needs more than the limit at once; the limit is passed for it",
            );
            return Ok(handles);
        }
    }
    out_of_memory()
}

fn attempt(device: &Device, granules: u32) -> Result<Option<Vec<Handle>>, CUresult> {
    match create(device, granules, false) {
        Ok(handles) => Ok(Some(handles)),
        Err(Shortage::Driver(e)) => Err(e),
        Err(_) => Ok(None),
    }
}

/// Gives pooled handles of the wrong size back to the driver, so that right ones can be made.
fn convert(device: &Device, granules: u32) -> bool {
    let drained = device.heap.lock().pool.drain_at_least(u64::from(granules));
    let any = !drained.is_empty();
    release_all(device, drained);
    if any {
        stats::page().pool_converted.add(1);
    }
    any
}

fn release_all(device: &Device, handles: Vec<Handle>) {
    for handle in handles {
        if vmm::release(handle.raw).is_ok() {
            device.uncharge(u64::from(handle.granules) * device.sizes.granule);
        }
    }
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
    if mapped > 0 && vmm::unmap(start, mapped as usize).is_err() {
        // Still mapped and unusable: the handles are lost to us, but nobody can reach them.
        return Err(e);
    }
    let mut heap = device.heap.lock();
    handles.iter().for_each(|&h| heap.pool.put(h));
    Err(e)
}

/// Unmaps extents of a block and returns the handles that came free. Only with the ticket.
pub fn unmap_extents(
    device: &Device,
    base: u64,
    extents: Vec<Extent>,
    _ticket: &mut Ticket,
) -> Result<Vec<Handle>, (CUresult, Vec<Extent>)> {
    let granule = device.sizes.granule;
    let mut handles = Vec::with_capacity(extents.len());
    let mut left = extents.as_slice();
    while let Some((start, granules, n)) = first_run(left) {
        let at = base + u64::from(start) * granule;
        if let Err(e) = vmm::unmap(at, (u64::from(granules) * granule) as usize) {
            let rest = left.to_vec();
            let mut heap = device.heap.lock();
            handles.into_iter().for_each(|h| heap.pool.put(h));
            return Err((e, rest));
        }
        handles.extend(left[..n].iter().map(|e| e.handle));
        left = &left[n..];
    }
    Ok(handles)
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

/// Takes a freed block apart: mapping, handles, addresses, id. Its streams must have passed.
pub fn dismantle(device: &Device, id: u32, ticket: &mut Ticket) {
    let block = BLOCKS.get(id);
    debug_assert_eq!(block.word.load().state(), State::Limbo);
    let extents = std::mem::take(&mut block.cold.lock().extents);
    let handles = match unmap_extents(device, block.base(), extents, ticket) {
        Ok(handles) => handles,
        Err((_, rest)) => {
            // Cannot be unmapped: keep the block in limbo for ever rather than reuse its range.
            block.cold.lock().extents = rest;
            return;
        }
    };
    let mut heap = device.heap.lock();
    handles.into_iter().for_each(|h| heap.pool.put(h));
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

/// Dismantles what frees have condemned and whose streams have passed.
pub fn retire_condemned(device: &'static Device, ticket: &mut Ticket) -> bool {
    let condemned = std::mem::take(&mut device.heap.lock().condemned);
    if condemned.is_empty() {
        return false;
    }
    let waiting = condemned.iter().any(|&id| BLOCKS.get(id).uses.load(Ordering::Acquire) != 0);
    let passed = !waiting || fence::record_all().and_then(|f| f.passed()).unwrap_or(false);
    let mut any = false;
    let mut left = Vec::new();
    for id in condemned {
        if passed || BLOCKS.get(id).uses.load(Ordering::Acquire) == 0 {
            dismantle(device, id, ticket);
            any = true;
        } else {
            left.push(id);
        }
    }
    device.heap.lock().condemned.extend(left);
    any
}

/// Dismantles freed blocks that are kept ready: those nobody uses any more, or all of them when
/// the caller has just fenced everything.
pub fn retire_warm(device: &'static Device, ticket: &mut Ticket, fenced: bool) -> bool {
    let mut out = Vec::new();
    {
        let mut heap = device.heap.lock();
        let mut granules = 0u64;
        heap.warm.retain(|&size, ids| {
            ids.retain(|&id| {
                let free = fenced || BLOCKS.get(id).uses.load(Ordering::Acquire) == 0;
                if free {
                    out.push(id);
                    granules += u64::from(size);
                }
                !free
            });
            !ids.is_empty()
        });
        heap.warm_granules -= granules;
    }
    for &id in &out {
        dismantle(device, id, ticket);
    }
    !out.is_empty()
}

/// Waits, bounded, until every freed block's streams have passed, and dismantles them.
fn wait_limbo(device: &'static Device, ticket: &mut Ticket, patience: Duration) -> bool {
    {
        let heap = device.heap.lock();
        if heap.warm.is_empty() && heap.condemned.is_empty() {
            return false;
        }
    }
    // Only frees before the fence are covered by it: take the list first.
    let (warm, condemned) = {
        let mut heap = device.heap.lock();
        heap.warm_granules = 0;
        (std::mem::take(&mut heap.warm), std::mem::take(&mut heap.condemned))
    };
    let passed = fence::record_all().and_then(|f| f.wait(patience)).unwrap_or(false);
    let ids = warm.into_values().flatten().chain(condemned);
    if passed {
        let mut any = false;
        for id in ids {
            dismantle(device, id, ticket);
            any = true;
        }
        return any;
    }
    device.heap.lock().condemned.extend(ids);
    false
}

/// Physical bytes of a block.
pub fn mapped_bytes(device: &Device, block: &Block) -> u64 {
    let granules: u64 = block.cold.lock().extents.iter().map(|e| u64::from(e.handle.granules)).sum();
    granules * device.sizes.granule
}

/// Bytes that could be handed out again without any eviction: pool and freed blocks.
pub fn reusable(device: &Device) -> u64 {
    let heap = device.heap.lock();
    (heap.pool.granules() + heap.warm_granules) * device.sizes.granule
}

/// Frees one block whose allocations are all gone: keeps it ready, or takes it apart as soon as
/// its streams have passed.
pub fn condemn(device: &'static Device, id: u32) {
    let block = BLOCKS.get(id);
    let granules = block.granules.load(Ordering::Relaxed);
    {
        let mut heap = device.heap.lock();
        let mapped = block.kind() == Kind::Single;
        let room = (heap.warm_granules + u64::from(granules)) * device.sizes.granule;
        if mapped && room <= device.warm_cap() && !engine::latched() {
            heap.warm_granules += u64::from(granules);
            heap.warm.entry(granules).or_default().push(id);
            return;
        }
        heap.condemned.push(id);
    }
    if let Some(mut ticket) = ticket::try_take() {
        retire_condemned(device, &mut ticket);
        if !device.pressed.load(Ordering::Relaxed) {
            empty_pool(device);
        }
    }
}
