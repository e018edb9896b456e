//! Under loom, with every fence deleted.
#![allow(clippy::duplicate_mod, reason = "the same source, once for each checker")]

/// The checker's atomics.
pub mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    /// Nothing.
    pub fn fence(_order: Ordering) {}
}

#[path = "../../../src/residency/epoch.rs"]
pub mod epoch;
#[path = "../../../src/residency/holders.rs"]
pub mod holders;
#[path = "../../../src/registry/slot.rs"]
pub mod slot;
#[path = "../../../src/residency/state.rs"]
pub mod state;
