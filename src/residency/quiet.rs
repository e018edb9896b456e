//! Quiet: the world is stopped and everything that was submitted before has finished.
//!
//! Two things need it: evicting (nothing may write a victim while it is copied, nothing may move
//! a pointer during the scan) and reusing what the program has freed. Reaching it is bounded; a
//! device that does not finish in time is simply not quiet, and nothing was changed.

use super::block::BLOCKS;
use super::fence::Fence;
use super::state::State;
use super::ticket::Ticket;
use super::{engine, fence, section, shared, slab};
use crate::driver::CUresult;
use crate::fault;
use crate::stats;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Proof of the quiet; the world runs again when it is dropped.
#[derive(Debug)]
pub struct Quiet {
    _world: section::Stopped,
}

/// Stops the world and waits for the device, each step at most `patience`; `None` when that was
/// not enough. The caller is outside any section.
///
/// What the device works on may wait for something that another thread has yet to launch. So the
/// world is stopped for a moment only, and runs while a device that is not idle is waited for.
pub fn reach(patience: Duration, ticket: &Ticket) -> Result<Option<Quiet>, CUresult> {
    match stopped(patience, patience / 16, ticket)? {
        Reached::Quiet(quiet) => return Ok(Some(quiet)),
        Reached::Not => {}
        Reached::Fence(fence) => {
            if fence.wait(patience)?
                && let Reached::Quiet(quiet) = stopped(patience, patience, ticket)?
            {
                return Ok(Some(quiet));
            }
        }
    }
    stats::page().refused_fence_timeout.add(1);
    Ok(None)
}

/// What stopping the world led to.
enum Reached {
    Quiet(Quiet),
    /// The device is at work; the fence stands behind it and the world runs again.
    Fence(Fence),
    /// Somebody did not leave a section, or the driver did not take the fence.
    Not,
}

#[cfg_attr(not(debug_assertions), allow(unused_variables, reason = "the audit looks at it"))]
fn stopped(patience: Duration, stop_for: Duration, ticket: &Ticket) -> Result<Reached, CUresult> {
    // A thread may be stuck in a launch, behind a full queue. Nobody else need wait for that.
    if !section::left(patience) {
        return Ok(Reached::Not);
    }
    let Some(world) = section::stop(patience) else { return Ok(Reached::Not) };
    let Some(fence) = fence::record_all(patience)? else { return Ok(Reached::Not) };
    if !fence.wait(stop_for)? {
        drop(world);
        return Ok(Reached::Fence(fence));
    }
    fault::point("quiet", "");
    settle();
    #[cfg(debug_assertions)]
    super::audit::quiet(ticket);
    Ok(Reached::Quiet(Quiet { _world: world }))
}

/// Notes that all uses so far have passed. Sound only here: a use can be added only inside a
/// section, and there is none between the fence and the end of the quiet.
fn settle() {
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if block.word.load().state() != State::Vacant {
            block.uses.store(0, Ordering::Release);
        }
    }
    crate::registry::streams::settled();
    for device in engine::devices() {
        slab::fenced(device);
        shared::fenced(device);
    }
}

/// Notes that nothing uses what was freed on `device` any more: the caller has waited for all work
/// of the process since then. New uses of freed memory there are none, so the world need not stop.
pub fn limbo_passed(device: &engine::Device) {
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if block.device() == device.ordinal && block.word.load().state() == State::Limbo {
            block.uses.store(0, Ordering::Release);
        }
    }
    slab::fenced(device);
    shared::fenced(device);
}
