//! coldpress: a drop-in CUDA memory allocator shim.

pub mod config;
pub mod driver;
pub mod say;
pub mod stats;
pub mod units;
