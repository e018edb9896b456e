//! The pure modules' own tests once more, by themselves: built in seconds, so that every way to
//! break one of their rules can be tried (`scripts/break-rules`).

#![allow(dead_code, reason = "only the tests are used")]

#[path = "../../../src/policy/mod.rs"]
mod policy;
#[path = "../../../src/residency/state.rs"]
mod state;

/// What the library's own `sync` names.
mod sync {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}
