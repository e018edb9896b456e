//! What the program has made in the driver: contexts, streams, kernels, globals, pinned memory.
//!
//! Owns: who exists and under which short number. Never: memory or residency. Look-ups on the
//! launch path (streams, functions) take no lock and allocate nothing.

pub mod contexts;
pub mod functions;
pub mod globals;
pub mod host;
mod slot;
pub mod streams;

use crate::sync;
