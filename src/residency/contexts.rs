//! What contexts mean to the engine: their allocations end with them, and peers may look in.

use super::alloc::{Order, begin_free, finish_free};
use super::block::BLOCKS;
use super::engine::{self, Device};
use super::patience::PATIENCE;
use super::state::State;
use super::{fence, freed, memory, query, quiet, scratch, search, store, stream, ticket};
use crate::driver::{CUresult, code};
use crate::registry::contexts::{self, Context, Doubt};
use crate::vmm;
use std::sync::atomic::Ordering;

/// The context `ctx` may end in the call that follows, so nothing of ours names it from here on;
/// `None` if it is not registered. Fences name live contexts under the ticket.
pub fn doubt(ctx: usize) -> Option<Doubt> {
    let _ticket = ticket::take();
    contexts::doubt(ctx)
}

/// A context is about to be destroyed: its allocations are freed, the internal stream goes, and
/// when it was the last one of its device all physical memory goes back to the driver. The hook
/// calls this before the driver's own destroy, while the context is still live; `waited` says that
/// all its work has finished. Without `alive` it has gone already, and nothing is called in it.
pub fn going(ctx: Context, waited: bool, alive: bool) {
    let Context { handle: ctx, device } = ctx;
    // A panic in the hook of a destroy leaves the rest to the next one.
    let mut ending: Vec<usize> = contexts::take_lost().iter().map(|lost| lost.handle).collect();
    if !alive {
        contexts::gone(ctx);
        ending.push(ctx);
    }
    for &gone in &ending {
        stream::context_gone(gone);
        search::context_gone(gone);
        fence::context_going(gone);
    }
    if alive {
        ending.push(ctx);
    }
    let live = contexts::live();
    // Work of other contexts may use the memory too.
    let passed = waited && !live.iter().any(|c| c.handle != ctx) && !contexts::in_doubt();
    if let (true, Some(device)) = (passed, engine::device_of(device)) {
        quiet::limbo_passed(device);
    }
    let order = if passed { Order::Synced } else { Order::After(0) };
    let mut bases = Vec::new();
    query::each(|found, _| {
        if ending.contains(&found.allocation.ctx) {
            bases.push(found.base);
        }
    });
    for base in bases {
        if let Ok(freed) = begin_free(base) {
            finish_free(freed, order);
        }
    }
    if let (true, Some(device)) = (passed, engine::device_of(device)) {
        // What was just freed brings uses along that nobody had looked at since.
        quiet::limbo_passed(device);
    }
    let last = !live.iter().any(|c| c.device == device && c.handle != ctx);
    if let Some(device) = engine::device_of(device)
        && let Some(mut ticket) = ticket::take()
    {
        // Once more where the driver refused. Not quiet in time: what is left in limbo goes with
        // the next rescue.
        let quiet = quiet::reach(PATIENCE, &ticket).or_else(|_| quiet::reach(PATIENCE, &ticket));
        freed::retire(device, &mut ticket);
        if last {
            store::shrink(device, ticket::work(&mut ticket));
            scratch::close(device, ticket::work(&mut ticket));
            memory::empty_pool(device);
        }
        // Fences name live contexts under the ticket, so from here on none names this one.
        contexts::gone(ctx);
        fence::context_going(ctx);
        drop(quiet);
        // Finds nothing where the context has gone already.
        search::context_going(ctx);
        stream::context_going(ctx);
    } else {
        // Whoever has held the ticket for so long may be using what we have there. It goes with the
        // context.
        search::context_gone(ctx);
        stream::context_gone(ctx);
    }
}

/// Lets `peer` read and write all memory of `device`, now and after every restore.
pub fn allow_peer(device: u8, peer: u8) -> Result<(), CUresult> {
    let Some(device) = engine::device_of(device) else { return Ok(()) };
    // Under the ticket nothing is mapped or unmapped by evictions; allocations made meanwhile
    // read the new set or are covered by the loop.
    let _ticket = ticket::take().ok_or(code::NOT_READY)?;
    let access = device.access.fetch_or(1 << peer, Ordering::AcqRel) | 1 << peer;
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        // Parts of what is away may be in place: a restore leaves those as they are.
        if block.device() != device.ordinal || block.word.load().state() == State::Vacant {
            continue;
        }
        grant(device, block, access)?;
    }
    Ok(())
}

fn grant(device: &Device, block: &super::block::Block, access: u32) -> Result<(), CUresult> {
    let granule = device.sizes.granule;
    let runs = memory::runs(&block.cold.lock().extents);
    for (first, granules) in runs {
        let start = block.base() + u64::from(first) * granule;
        vmm::set_access(start, (u64::from(granules) * granule) as usize, access)?;
    }
    Ok(())
}

/// Takes the permission back for memory that is mapped from now on. What is mapped already stays
/// readable: the program said it will not look.
pub fn forbid_peer(device: u8, peer: u8) {
    if let Some(device) = engine::device_of(device) {
        device.access.fetch_and(!(1 << peer), Ordering::AcqRel);
    }
}
