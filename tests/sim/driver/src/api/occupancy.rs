//! Occupancy, as if every kernel used 32 registers and no static shared memory.

use super::out;
use crate::abi::{Handle, Outcome, code};
use crate::entry::api;
use crate::loaded;

const THREADS: i32 = 2048;
const PER_BLOCK: i32 = 1024;
const BLOCKS: i32 = 32;
const MULTIPROCESSORS: i32 = 132;
const SHARED: usize = 228 << 10;
const SHARED_PER_BLOCK: usize = 227 << 10;
/// What the system keeps of shared memory in every block.
const SYSTEM: usize = 1 << 10;

fn blocks(f: Handle, threads: i32, shared: usize) -> Outcome<i32> {
    loaded::find_function(f)?;
    if threads <= 0 {
        return Err(code::INVALID_VALUE);
    }
    if threads > PER_BLOCK || shared > SHARED_PER_BLOCK {
        return Ok(0);
    }
    let by_shared = (SHARED / (shared + SYSTEM)) as i32;
    Ok((THREADS / ((threads + 31) & !31)).min(BLOCKS).min(by_shared))
}

type SharedOf = unsafe extern "C" fn(i32) -> usize;

/// The block size, by whole warps, that keeps most threads busy; the larger of equals.
fn best(f: Handle, of: Option<SharedOf>, shared: usize, limit: i32) -> Outcome<(i32, i32)> {
    let limit = if limit <= 0 { PER_BLOCK } else { limit.min(PER_BLOCK) };
    let mut found = (0, 0, 0);
    let mut threads = if limit < 32 { limit } else { limit / 32 * 32 };
    while threads > 0 {
        // SAFETY: the program's own function, made to be asked for any block size.
        let shared = of.map_or(shared, |of| unsafe { of(threads) });
        let n = blocks(f, threads, shared)?;
        if n * threads > found.0 {
            found = (n * threads, n, threads);
        }
        threads -= 32;
    }
    Ok((found.1 * MULTIPROCESSORS, found.2))
}

api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(n: *mut i32, f: Handle, threads: i32, shared: usize) {
        out(n, blocks(f, threads, shared)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n: *mut i32, f: Handle, threads: i32, shared: usize, flags: u32) {
        if flags > 1 {
            return Err(code::INVALID_VALUE);
        }
        out(n, blocks(f, threads, shared)?)
    }

    fn cuOccupancyMaxPotentialBlockSize(grid: *mut i32, block: *mut i32, f: Handle, of: Option<SharedOf>, shared: usize, limit: i32) {
        let (blocks, threads) = best(f, of, shared, limit)?;
        out(grid, blocks)?;
        out(block, threads)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(grid: *mut i32, block: *mut i32, f: Handle, of: Option<SharedOf>, shared: usize, limit: i32, flags: u32) {
        if flags > 1 {
            return Err(code::INVALID_VALUE);
        }
        let (blocks, threads) = best(f, of, shared, limit)?;
        out(grid, blocks)?;
        out(block, threads)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: *mut usize, f: Handle, n: i32, threads: i32) {
        if n <= 0 || n > blocks(f, threads, 0)? {
            return Err(code::INVALID_VALUE);
        }
        out(bytes, (SHARED / n as usize - SYSTEM).min(SHARED_PER_BLOCK))
    }
}
