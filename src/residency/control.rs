//! What the outside may ask of the engine: evict, restore, pin, hint, latch, off and on.

use super::block::{Allocation, BLOCKS, Kind, reason};
use super::engine::{self, EVICTED};
use super::evict::Why;
use super::patience::{self, Effort, PATIENCE, patiently};
use super::query::{self, Found};
use super::restore::{Pinned, restore};
use super::ticket::{self, Ticket};
use super::{evict, freed, memory, quiet};
use crate::driver::{CUdeviceptr, CUresult, code};
use crate::stats;
use std::sync::atomic::Ordering;

pub use super::fence::stream_going;
pub use super::gauges::publish as publish_gauges;
pub use super::manager::{start as start_manager, stop as stop_manager};

/// The first call of an entry point whose reach is unknown: everything is made resident and
/// eviction stays off for the life of the process. Anything but SUCCESS means that this was not
/// possible; the call must not be made then and eviction goes on as before.
pub fn latch(name: &str) -> CUresult {
    if engine::get().is_none() {
        // Nothing is managed yet; remember it for when something is.
        if engine::set_latched() {
            stats::page().set_eviction_off(name);
        }
        return code::SUCCESS;
    }
    if engine::latched() && EVICTED.load(Ordering::SeqCst) == 0 {
        return code::SUCCESS;
    }
    // The switch comes after the restores, so that a failure leaves eviction as it was; both
    // under the ticket, so nothing is evicted in between.
    let done = patiently(patience::deadline(), true, |ticket, effort| {
        restore_everything(ticket, effort).map(|()| engine::set_latched())
    });
    match done {
        Ok(true) => {
            stats::page().set_eviction_off(name);
            crate::say::once(
                "latched",
                &format!("eviction is off from here on: {name} was called"),
            );
            code::SUCCESS
        }
        Ok(false) => code::SUCCESS,
        Err(e) => {
            crate::say::line(&format!(
                "{name} needs all memory resident and that does not fit; it returns an error. \
                 Raise the limit, or leave that call out"
            ));
            e
        }
    }
}

/// Makes everything resident.
pub fn restore_all() -> Result<(), CUresult> {
    patiently(patience::deadline(), true, restore_everything)
}

fn restore_everything(ticket: &mut Ticket, effort: Effort) -> Result<(), CUresult> {
    let _hold = engine::hold_evictions();
    let mut result = Ok(());
    for id in BLOCKS.ids() {
        if !BLOCKS.get(id).word.load().state().is_evicted() {
            continue;
        }
        match restore(id, ticket, effort) {
            // The device is busy: the same for all that follow.
            Err(code::NOT_READY) => return Err(code::NOT_READY),
            done => result = result.and(done),
        }
    }
    result
}

/// Stops evicting and restores everything (`off`), or allows it again.
pub fn set_off(off: bool) -> Result<(), CUresult> {
    engine::set_user_off(off);
    if off { restore_all() } else { Ok(()) }
}

/// Which allocations a request means: the one at an address, those of a tag, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The allocation that contains this address.
    At(CUdeviceptr),
    /// All that were made under one of these tags.
    Tagged(&'a [u32]),
    /// All.
    All,
}

impl Which<'_> {
    fn blocks(self) -> Result<Vec<u32>, CUresult> {
        match self {
            Which::At(ptr) => Ok(vec![query::find(ptr).ok_or(code::INVALID_VALUE)?.block]),
            Which::Tagged(tags) => Ok(holding(|a| tags.contains(&a.tag))),
            Which::All => Ok(holding(|_| true)),
        }
    }
}

fn holding(wanted: impl Fn(&Allocation) -> bool) -> Vec<u32> {
    let mut out = Vec::new();
    query::each(|found: Found, _| {
        if wanted(&found.allocation) && out.last() != Some(&found.block) {
            out.push(found.block);
        }
    });
    out
}

/// Evicts what is meant, as far as nothing keeps it; the physical bytes that came free. Slabs
/// never leave.
pub fn evict(which: Which<'_>) -> Result<u64, CUresult> {
    let ids = which.blocks()?;
    let mut ticket = ticket::take().ok_or(code::NOT_READY)?;
    let Some(quiet) = quiet::reach(PATIENCE, &ticket)? else { return Err(code::NOT_READY) };
    let mut bytes = 0;
    for device in engine::devices() {
        bytes += evict::evict_some(device, u64::MAX, Why::Word, &mut ticket, &quiet, |id| {
            ids.binary_search(&id).is_ok()
        });
        // For whoever needs it, other processes among them.
        memory::empty_pool(device);
    }
    Ok(bytes)
}

/// What an eviction of `which` left on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staying {
    /// Blocks that stay.
    pub blocks: usize,
    /// Of those, blocks that the program has pinned.
    pub pinned: usize,
    /// Of those, slabs of small allocations.
    pub slabs: usize,
}

/// Counts what is meant and on the device.
pub fn staying(which: Which<'_>) -> Result<Staying, CUresult> {
    let mut out = Staying::default();
    for id in which.blocks()? {
        if !away(id) {
            out.blocks += 1;
            out.pinned += usize::from(user_pinned(id));
            out.slabs += usize::from(BLOCKS.get(id).kind() == Kind::Slab);
        }
    }
    Ok(out)
}

/// True if the bytes of the block are not on the device.
pub fn away(id: u32) -> bool {
    BLOCKS.get(id).word.load().state().is_evicted()
}

/// Makes what is meant resident, as far as it fits under the limit.
pub fn restore_which(which: Which<'_>) -> Result<(), CUresult> {
    patiently(patience::deadline(), false, |ticket, effort| {
        // Held until all are there: restoring one must not evict another of the set.
        let mut held = Pinned::default();
        let mut absent = which.blocks()?;
        absent.retain(|&id| !held.pin(BLOCKS.get(id)));
        for id in absent {
            restore(id, ticket, effort)?;
            held.pin(BLOCKS.get(id));
        }
        Ok(())
    })
}

/// Gives device memory that is held ready, and what is freed and has passed, back to the driver.
pub fn trim() {
    let Some(mut ticket) = ticket::take() else { return };
    // Not quiet in time: what is still in use stays in limbo.
    let quiet = quiet::reach(PATIENCE, &ticket);
    for device in engine::devices() {
        freed::retire(device, &mut ticket);
        memory::empty_pool(device);
    }
    drop(quiet);
}

/// Makes the allocation at `ptr` resident and keeps it so until as many unpins.
pub fn pin(ptr: CUdeviceptr) -> Result<(), CUresult> {
    let found = query::find(ptr).ok_or(code::INVALID_VALUE)?;
    patiently(patience::deadline(), false, |ticket, effort| {
        // The ticket keeps evictors out between the count and the restore.
        change_pins(&found, 1)?;
        restore(found.block, ticket, effort).inspect_err(|_| {
            let _ = change_pins(&found, -1);
        })
    })
}

/// Takes one pin back.
pub fn unpin(ptr: CUdeviceptr) -> Result<(), CUresult> {
    let found = query::find(ptr).ok_or(code::INVALID_VALUE)?;
    change_pins(&found, -1)
}

fn change_pins(found: &Found, by: i32) -> Result<(), CUresult> {
    let block = BLOCKS.get(found.block);
    let mut cold = block.cold.lock();
    let offset = found.base - block.base();
    let allocation = match block.kind() {
        Kind::Single => Some(&mut cold.single),
        Kind::Shared => cold.allocations.get_mut(&offset),
        Kind::Slab => {
            let slot = offset.checked_div(cold.slot_bytes).ok_or(code::INVALID_VALUE)?;
            cold.slots.get_mut(slot as usize)
        }
    };
    let allocation =
        allocation.filter(|a| a.id == found.allocation.id).ok_or(code::INVALID_VALUE)?;
    allocation.pins = allocation.pins.checked_add_signed(by).ok_or(code::INVALID_VALUE)?;
    block.refresh_pins(&cold);
    Ok(())
}

/// Marks the allocation at `ptr` as the next to go, or as just used.
pub fn hint(ptr: CUdeviceptr, cold: bool) -> Result<(), CUresult> {
    let found = query::find(ptr).ok_or(code::INVALID_VALUE)?;
    let stamp = if cold { 0 } else { super::now() };
    BLOCKS.get(found.block).last_use.store(stamp, Ordering::Relaxed);
    Ok(())
}

/// True if the program has pinned something in the block.
pub fn user_pinned(id: u32) -> bool {
    BLOCKS.get(id).reasons.load(Ordering::Acquire) & reason::USER != 0
}
