//! The atomics of the protocols that model checkers look at. Those modules name them
//! `super::sync`, so that `tests/model` can compile the very same source against a checker's own.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
