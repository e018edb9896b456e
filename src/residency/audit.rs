//! Looks whether the engine's tables agree with each other.
//!
//! In builds with debug assertions `TEST_COLDPRESS_AUDIT=1` does it at every quiet; what disagrees
//! is said in a line that begins with `audit:`, and the end of the process says how often it was
//! done. For programs with one thread: another one may be in the middle of an allocation, which
//! needs no quiet. Release builds contain nothing of this.

use super::blob::Kept;
use super::block::{BLOCKS, Block, Cold, Kind};
use super::engine::{self, Device, EVICTED, MAX_DEVICES};
use super::state::State;
use super::ticket::Ticket;
use crate::heap::MAP;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static DONE: AtomicU64 = AtomicU64::new(0);

fn wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("TEST_COLDPRESS_AUDIT").is_some_and(|v| v == "1"))
}

/// Compares everything, if that is wanted; the world stands still.
pub fn quiet(ticket: &Ticket) {
    if !wanted() {
        return;
    }
    DONE.fetch_add(1, Ordering::Relaxed);
    let mut wrong = String::new();
    let mut away = 0u64;
    let (mut host, mut stores) = (0u64, [0u64; MAX_DEVICES]);
    let mut restoring = false;
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        let state = block.word.load().state();
        if state == State::Vacant {
            continue;
        }
        let cold = block.cold.lock();
        restoring |= state == State::Restoring;
        away += u64::from(state.is_evicted());
        away += u64::from(matches!(state, State::Restoring | State::Poisoned));
        for page in cold.blob.iter().flat_map(|blob| blob.pages()) {
            match page.kept {
                Kept::Host(place) => host += place.bytes() as u64,
                Kept::Device(place) => stores[usize::from(block.device())] += place.bytes() as u64,
                Kept::Nothing | Kept::Draft(_) => {}
            }
        }
        if let Err(why) = covered(id, block).and_then(|()| inside(block, &cold, state)) {
            let _ = write!(wrong, "; block {id} ({state:?}): {why}");
        }
    }
    if EVICTED.load(Ordering::SeqCst) != away {
        let _ =
            write!(wrong, "; {away} blocks are away, counted {}", EVICTED.load(Ordering::SeqCst));
    }
    // A restore holds its copies itself until all of them are done.
    if let Some(work) = ticket.as_ref().filter(|_| !restoring) {
        let used = work.arena.used();
        if used != host {
            let _ = write!(wrong, "; {host} bytes are in the host tier, it counts {used}");
        }
        for (store, bytes) in work.stores.iter().zip(stores).filter(|(s, b)| s.used() != *b) {
            let _ = write!(wrong, "; {bytes} bytes are in a store, it counts {}", store.used());
        }
    }
    for device in engine::devices() {
        let store = ticket.as_ref().map(|work| &work.stores[usize::from(device.ordinal)]);
        let ours = store.map_or(0, |s| s.bytes() + s.scratch_granules() * device.sizes.granule);
        if let Err(why) = totals(device, ours) {
            let _ = write!(wrong, "; device {}: {why}", device.ordinal);
        }
    }
    if !wrong.is_empty() {
        crate::say::line(&format!("audit: {}", &wrong[2..]));
    }
}

/// How often it was done; at the end of the process.
pub fn ended() {
    if wanted() {
        crate::say::line(&format!("audited {} times", DONE.load(Ordering::Relaxed)));
    }
}

/// Every granule of a block leads to it, the guard behind it as well.
fn covered(id: u32, block: &Block) -> Result<(), String> {
    let view = MAP.view();
    let start = (block.base() - view.base()) >> view.shift();
    let granules = u64::from(block.granules.load(Ordering::Relaxed)) + 1;
    match (start..start + granules).find(|&g| view.at(g) != id) {
        Some(granule) => Err(format!("granule {granule} leads to {}", view.at(granule))),
        None => Ok(()),
    }
}

/// Allocations, holes and slots of a block neither overlap nor leave it.
fn inside(block: &Block, cold: &Cold, state: State) -> Result<(), String> {
    let view = MAP.view();
    let bytes = u64::from(block.granules.load(Ordering::Relaxed)) << view.shift();
    if cold.blob.is_some() && !(state.is_evicted() || state == State::Poisoned) {
        return Err("has a copy".to_owned());
    }
    if cold.blob.is_none() && state.is_evicted() {
        return Err("has no copy".to_owned());
    }
    let mut parts: Vec<(u64, u64)> = match block.kind() {
        Kind::Single => vec![(0, cold.single.size)],
        Kind::Shared => {
            let live = cold.allocations.iter().map(|(&start, a)| (start, a.size));
            live.chain(cold.holes.iter().map(|h| (h.start, h.len))).collect()
        }
        Kind::Slab => {
            let used = cold.slots.iter().filter(|a| a.size > 0).count();
            if used + cold.free_slots.len() > cold.slots.len() {
                return Err(format!("{used} slots used, {} free", cold.free_slots.len()));
            }
            Vec::new()
        }
    };
    parts.sort_unstable();
    let mut end = 0;
    for (start, len) in parts {
        if start < end || start + len > bytes {
            return Err(format!("{len} bytes at {start} meet others"));
        }
        end = start + len;
    }
    Ok(())
}

/// Addresses, physical memory and the lists of freed blocks of a device.
fn totals(device: &Device, ours: u64) -> Result<(), String> {
    let (mut addresses, mut mapped) = (0, 0);
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if block.device() == device.ordinal && block.word.load().state() != State::Vacant {
            addresses += u64::from(block.granules.load(Ordering::Relaxed)) + 1;
            mapped += super::memory::mapped_bytes(device, block);
        }
    }
    let spare = device.spare.load(Ordering::Acquire);
    let heap = device.heap.lock();
    let held = ours + mapped + heap.pool.granules() * device.sizes.granule;
    let charged = device.charged.load(Ordering::Acquire);
    if held != charged {
        return Err(format!("holds {held} bytes, charged {charged}"));
    }
    let slice = MAP.view().span() >> MAP.view().shift();
    let slice = slice / engine::devices().len() as u64;
    if heap.addresses.free() + addresses != slice {
        return Err(format!(
            "{} granules free, {addresses} used, of {slice}",
            heap.addresses.free()
        ));
    }
    let warm = heap.warm.iter().flat_map(|(&size, ids)| ids.iter().map(move |&id| (id, size)));
    let granules: u64 = warm.clone().map(|(_, size)| u64::from(size)).sum();
    if granules != heap.warm_granules {
        return Err(format!("{granules} granules kept ready, counted {}", heap.warm_granules));
    }
    let mut seen = BTreeSet::new();
    let freed = warm.map(|(id, _)| id).chain(heap.condemned.iter().copied());
    for id in freed.chain((spare != 0).then_some(spare)) {
        if BLOCKS.get(id).word.load().state() != State::Limbo || !seen.insert(id) {
            return Err(format!("block {id} is on a list of freed ones"));
        }
    }
    Ok(())
}
