//! coldpress: a drop-in CUDA memory allocator shim.

mod capi;
pub mod codec;
pub mod config;
pub mod driver;
pub mod exports;
mod fault;
pub mod heap;
pub mod hooks;
pub mod intercept;
pub mod os;
pub mod policy;
pub mod registry;
pub mod residency;
pub mod say;
pub mod stats;
pub mod sync;
pub mod tier;
pub mod units;
pub mod vmm;
