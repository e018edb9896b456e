//! Checks of transfers by reading back, where pages are coded on the host.
//!
//! The hash of a page is made there from the bytes that came down, and checked before they go up,
//! so by itself it sees nothing of a transfer. What was transferred is downloaded once more and
//! hashed again, while nothing can write it: at an eviction in the quiet, before anything is
//! unmapped; at a restore before the block is usable. Kernels hash what is in device memory.

use super::blob::Page;
use super::{engine, stream};
use crate::codec::page_hash;
use crate::driver::CUresult;
use crate::stats;

/// So many copies that were not right at an eviction, and nothing is evicted any more.
const PATIENCE: u64 = 3;

/// Whether the device memory at `start`, read once more into `buffer`, has the hashes of `pages`.
/// Pages and buffer are of the same length.
pub fn read_back<'a>(
    ctx: usize,
    start: u64,
    pages: impl IntoIterator<Item = &'a Page>,
    buffer: &mut [u8],
) -> Result<bool, CUresult> {
    stream::download(ctx, start, buffer)?;
    let mut left = &*buffer;
    for page in pages {
        let Some((bytes, rest)) = left.split_at_checked(page.descriptor.bytes()) else {
            return Ok(false);
        };
        if page_hash(bytes) != page.descriptor.hash() {
            return Ok(false);
        }
        left = rest;
    }
    Ok(left.is_empty())
}

/// A copy made for an eviction is not right: the original stays. Hardware that does this again
/// and again is not trusted with memory any more.
pub fn distrust() {
    let page = stats::page();
    page.verify_failures.add(1);
    page.evict_mismatches.add(1);
    crate::say::once(
        "verify-evict",
        "a copy did not have the hash of its original; the original stays on the device",
    );
    if page.evict_mismatches.get() >= PATIENCE && engine::set_latched() {
        let why = "copies to host memory come out wrong";
        page.set_eviction_off(why);
        crate::say::line(&format!("eviction is off from here on: {why}"));
    }
}
