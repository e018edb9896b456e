//! coldpress: a drop-in CUDA memory allocator shim.

pub mod driver;
