//! The manager thread: watches the statistics page for orders, keeps memory free ahead of time in
//! `mode:active`, gives idle memory back, publishes gauges.
//!
//! Started with the engine, never from the library's constructor. It takes the ticket only when
//! nobody has it: launches and allocations go first.

use super::evict::Why;
use super::patience::PATIENCE;
use super::{control, engine, evict, freed, gauges, memory, prefetch, quiet, thread, ticket};
use crate::config::{self, Mode};
use crate::stats::{self, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(20);

static STOP: AtomicBool = AtomicBool::new(false);

/// Starts the thread; a refusal only means that nothing happens in the background.
pub fn start() {
    thread::start("coldpress", run);
}

/// Ends it at its next tick.
pub fn stop() {
    STOP.store(true, Ordering::Release);
}

fn run() {
    while !STOP.load(Ordering::Acquire) {
        let done = std::panic::catch_unwind(tick);
        if done.is_err() {
            // As after a panic in a hook, except that nobody waits for the answer.
            engine::freeze();
            stats::page().set_eviction_off("a fault in coldpress");
            crate::say::once("manager", "the background thread failed and has ended");
            let _ = std::panic::catch_unwind(control::restore_all);
            return;
        }
        prefetch::wait(TICK);
    }
}

fn tick() {
    let page = stats::page();
    if let Some(order) = page.control_request() {
        let off = order.command == Command::Off;
        let done = control::set_off(off).is_ok();
        page.user_off.set(u64::from(off));
        page.control_ack(order.number, done);
    }
    prefetch::serve();
    tidy();
    if config::get().mode == Mode::Active && engine::armed() {
        keep_free();
    }
    gauges::publish();
}

/// Takes apart what was freed while nobody could do it.
fn tidy() {
    for device in engine::devices() {
        if !device.heap.lock().abandoned.is_empty()
            && let Some(mut ticket) = ticket::try_take()
        {
            freed::retire(device, &mut ticket);
        }
    }
}

/// Evicts the coldest until the watermark is free again.
fn keep_free() {
    for device in engine::devices() {
        let wanted = config::get().watermark_for(device.limit);
        let charged = device.charged.load(Ordering::Relaxed);
        let free = device.limit.saturating_sub(charged) + freed::reusable(device);
        if free >= wanted {
            continue;
        }
        let Some(mut ticket) = ticket::try_take() else { return };
        freed::retire(device, &mut ticket);
        if let Ok(Some(quiet)) = quiet::reach(PATIENCE / 10, &ticket) {
            let more = memory::available(device) + (wanted - free);
            evict::evict(device, more, Why::Room, &mut ticket, &quiet);
        }
    }
}
