//! Wishes to have a block back soon, served by the manager thread.
//!
//! A wish never costs anybody else: a block is only restored where it fits without an eviction.

use super::block::BLOCKS;
use super::engine::{self, Device};
use super::memory;
use super::patience::{Effort, PATIENCE};
use super::restore::restore;
use super::ticket;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;

/// More wishes than this are not remembered; each is only a hint.
const MOST: usize = 4096;

static WISHES: Mutex<VecDeque<u32>> = Mutex::new(VecDeque::new());
static WISHED: Condvar = Condvar::new();

/// Asks for a block.
pub fn ask(id: u32) {
    if !BLOCKS.get(id).word.load().state().is_evicted() {
        return;
    }
    let mut wishes = WISHES.lock();
    if wishes.len() < MOST && !wishes.contains(&id) {
        wishes.push_back(id);
        WISHED.notify_one();
    }
}

/// Waits for a wish, at most `time`.
pub fn wait(time: Duration) {
    let mut wishes = WISHES.lock();
    if wishes.is_empty() {
        WISHED.wait_for(&mut wishes, time);
    }
}

/// Restores what was asked for, in order.
pub fn serve() {
    while let Some(id) = next() {
        let Some(mut ticket) = ticket::take_within(PATIENCE) else {
            WISHES.lock().push_front(id);
            return;
        };
        let Some(device) = engine::device_of(BLOCKS.get(id).device()) else { continue };
        if needed(device, id) <= memory::available(device) {
            // The card may be fuller than the limit says. A failure changes nothing: the block
            // stays away until something needs it.
            let _hold = engine::hold_evictions();
            let _ = restore(id, &mut ticket, Effort::WISH);
        }
    }
}

fn next() -> Option<u32> {
    WISHES.lock().pop_front()
}

/// Device memory that the block takes when it comes back; nothing if it is not away.
fn needed(device: &Device, id: u32) -> u64 {
    let cold = BLOCKS.get(id).cold.lock();
    let parts = cold.blob.iter().flat_map(|blob| &blob.parts).filter(|part| part.pages.is_some());
    parts.map(|part| u64::from(part.granules) * device.sizes.granule).sum()
}
