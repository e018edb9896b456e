//! Where evicted bytes are kept: the pinned host arena.
//!
//! Owns: host memory for spilled pages, in pieces that are registered with the driver, not
//! inherited by forks and left out of core files. Never: what the pages mean. Growth is checked
//! against `host_limit` and the machine's headroom at every piece; a refusal is an ordinary
//! answer, the job goes on without spilling.

mod arena;

pub use arena::{Arena, Refusal, Slot};
