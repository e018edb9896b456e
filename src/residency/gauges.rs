//! Writes the engine's gauges to the statistics page: what is where, per device.

use super::blob::Kept;
use super::block::{BLOCKS, Kind};
use super::engine::{self, Device};
use super::state::State;
use super::ticket::Work;
use super::{control, memory, section};
use crate::stats;
use std::sync::atomic::Ordering;

/// Index of the program's own pins among the page's reasons.
const USER: usize = 0;

/// Bytes by place, for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Mapped and live, slabs included.
    pub resident: u64,
    /// Of those, slabs.
    pub slabs: u64,
    /// Of those, pinned by the program.
    pub pinned: u64,
    /// In the device's store, as the program sees them.
    pub compressed: u64,
    /// In the host tier, as the program sees them.
    pub spilled: u64,
    /// Freed by the program, still mapped.
    pub limbo: u64,
}

/// Counts the blocks of a device.
pub fn places(device: &Device) -> Places {
    let mut out = Places::default();
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        let state = block.word.load().state();
        if state == State::Vacant || block.device() != device.ordinal {
            continue;
        }
        let mapped = memory::mapped_bytes(device, block);
        match state {
            State::Limbo => out.limbo += mapped,
            State::Compressed | State::Spilled | State::Poisoned => {
                let cold = block.cold.lock();
                for page in cold.blob.iter().flat_map(|blob| blob.pages()) {
                    let bytes = page.descriptor.bytes() as u64;
                    match page.kept {
                        Kept::Device(_) => out.compressed += bytes,
                        // It is where its block's other pages are, and takes no room there.
                        Kept::Nothing if state == State::Compressed => out.compressed += bytes,
                        _ => out.spilled += bytes,
                    }
                }
                out.resident += mapped;
            }
            _ => {
                out.resident += mapped;
                if block.kind() == Kind::Slab {
                    out.slabs += mapped;
                }
                if control::user_pinned(id) {
                    out.pinned += mapped;
                }
            }
        }
    }
    out
}

/// What the tiers hold.
pub fn publish_tiers(work: &Work) {
    let page = stats::page();
    page.host_bytes.set(work.arena.bytes());
    page.host_used.set(work.arena.used());
    for (store, out) in work.stores.iter().zip(&page.devices) {
        out.store.set(store.bytes());
        out.store_used.set(store.used());
    }
}

/// Brings the page up to date.
pub fn publish() {
    let page = stats::page();
    page.launches.set(section::launches());
    page.reasons[USER].set("program");
    for (device, out) in engine::devices().iter().zip(&page.devices) {
        let places = places(device);
        out.card.set(device.card);
        out.limit.set(device.limit);
        out.charged.set(device.charged.load(Ordering::Relaxed));
        out.peak.set(device.peak.load(Ordering::Relaxed));
        out.resident.set(places.resident);
        out.slabs.set(places.slabs);
        out.pinned[USER].set(places.pinned);
        out.compressed.set(places.compressed);
        out.spilled.set(places.spilled);
        out.limbo.set(places.limbo);
        out.pooled.set(memory::pooled(device));
    }
}
