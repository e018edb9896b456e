//! Between the program and the hooks: what answers a look-up, what surrounds every hook, when the
//! library may act at all.
//!
//! Owns: binding, the resolver, the guard, the life cycle, the entry points that turn eviction
//! off. Never: what a call means for memory (that is `hooks`). Nothing here holds a lock across a
//! driver call, and nothing here ends the process.

pub mod bind;
pub mod guard;
mod latch;
pub mod lifecycle;
mod load;
pub mod resolve;
