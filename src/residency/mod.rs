//! The engine: which block is where, and how it gets there and back.
//!
//! Owns: the state of every block, the launch sections, eviction, restore, memory under the
//! limit. Never: the shape of driver calls (that is `hooks`) or what pages look like (`codec`).
//!
//! A reader's way through it: `state` (what can happen to a block), `block` (what a block is),
//! `engine` (devices and sizes), `alloc` with `shared` and `slab` (giving out memory), `memory`
//! and `freed` (physical memory under the limit), `section` with `epoch`, `ticket`, `quiet`, `fence`, `holders`
//! and `patience` (who may do what when, and who waits how long), `submit` (what a launch or copy
//! goes through), `scan` with `search`, `evict` with `round`, `restore`, `coder` and `decode` with `blob`, `store`, `scratch` and
//! `stream` (how bytes are kept meanwhile), and `query`, `control`, `prefetch`, `contexts` for the outside.

pub mod alloc;
#[cfg(debug_assertions)]
pub mod audit;
mod blob;
pub mod block;
mod coder;
pub mod contexts;
pub mod control;
mod decode;
pub mod engine;
mod epoch;
mod evict;
mod fence;
mod freed;
mod gauges;
mod holders;
mod manager;
mod memory;
mod patience;
pub mod prefetch;
pub mod query;
mod quiet;
mod restore;
mod round;
mod scan;
mod scratch;
mod search;
mod section;
mod shared;
mod slab;
pub mod state;
mod store;
mod stream;
pub mod submit;
pub mod tags;
mod thread;
mod ticket;
mod verify;

pub use fence::in_context;
pub use restore::POISONED;

use crate::sync;

/// A time stamp for ages: only its order counts.
#[inline]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has a time stamp counter.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        static CLOCK: AtomicU64 = AtomicU64::new(1);
        CLOCK.fetch_add(1, Ordering::Relaxed)
    }
}
