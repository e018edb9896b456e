//! Where evicted bytes are kept: the pinned host arena and the device store.
//!
//! Owns: host memory for spilled pages, in pieces that are registered with the driver, not
//! inherited by forks and left out of core files; which addresses of the device store are whose.
//! Never: what the pages mean. Growth of the arena is checked against `host_limit` and the
//! machine's headroom at every piece; a refusal is an ordinary answer, the job goes on without
//! spilling.

mod arena;
mod space;
mod store;

pub use arena::{Arena, Refusal};
pub use space::Place;
pub use store::Store;
