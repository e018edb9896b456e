//! The virtual heap: one reservation for the whole process, a slice of it per device.
//!
//! Owns: the addresses, the granule map (address -> block id) and the range check every hook
//! starts with. Never: physical memory (see `vmm`) or block contents (see `residency`).
//! One reservation instead of one per device keeps the launch path at a single compare.
//! Readers of the map take no lock; entries are written under the device's heap lock.

mod map;
mod range;

pub use map::{GranuleMap, View};
pub use range::RangeAllocator;

/// Where the heap would like to live: words of ordinary data rarely look like these addresses
/// (a NaN in fp16, 1e37 in bf16, a denormal in fp32).
pub const HINT: u64 = 0x7E00_0000_0000;

/// The process-wide map.
pub static MAP: GranuleMap = GranuleMap::new();
