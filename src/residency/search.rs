//! Device memory searched for addresses by a kernel; what it finds comes back in pinned host memory,
//! so that it needs no memory of the device, of which there is none when it is needed first.

use super::fence;
use super::scan::{Hit, Targets};
use super::stream::{self, Search};
use crate::driver::{CUresult, code};
use crate::fault;
use parking_lot::Mutex;

/// A range of device memory. Starts and ends at whole words.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Address.
    pub at: u64,
    /// Bytes.
    pub bytes: u64,
    /// Comes back with what is found; below [`SOURCES`].
    pub source: u32,
}

/// So many sources can be told apart.
pub const SOURCES: usize = 1 << 24;
/// Ranges of one launch.
const RANGES: usize = 4096;
/// Addresses that are told; where there are more the host reads the memory itself.
const ROOM: usize = 1 << 16;
/// Words of a chunk, as `kernels/scan/words.h` has them.
const CHUNK: u64 = 8192;

/// A range as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Told {
    at: u64,
    words: u64,
    source: u32,
    first_chunk: u32,
}

/// What host and device share.
#[repr(C)]
struct Shared {
    taken: u64,
    ranges: [Told; RANGES],
    found: [u64; ROOM],
}

/// It, of one context, as numbers.
static SHARED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

fn shared(ctx: usize) -> Result<usize, CUresult> {
    let known = SHARED.lock().iter().find(|(c, _)| *c == ctx).map(|&(_, at)| at);
    if let Some(at) = known {
        return Ok(at);
    }
    let at = fence::in_context(ctx, |api| {
        let mut at = std::ptr::null_mut();
        /// Reachable from all devices, and by the device under the same address.
        const PORTABLE_MAPPED: u32 = 1 | 2;
        // SAFETY: `at` is a live local.
        let made = unsafe {
            (api.cuMemHostAlloc)(&raw mut at, std::mem::size_of::<Shared>(), PORTABLE_MAPPED)
        };
        if made == code::SUCCESS { Ok(at as usize) } else { Err(made) }
    })??;
    SHARED.lock().push((ctx, at));
    Ok(at)
}

/// Forgets what was shared with a context that has gone, and took it along.
pub fn context_gone(ctx: usize) {
    SHARED.lock().retain(|(c, _)| *c != ctx);
}

/// Gives it back before a context goes.
pub fn context_going(ctx: usize) {
    let mine = SHARED.lock().iter().find(|(c, _)| *c == ctx).map(|&(_, at)| at);
    context_gone(ctx);
    if let Some(at) = mine {
        // SAFETY: made by `shared`, and nobody finds it any more.
        let _ = fence::in_context(ctx, |api| unsafe { (api.cuMemFreeHost)(at as *mut _) });
    }
}

/// Gives every address in `ranges`, memory of our blocks, to `found`, more than once perhaps. The
/// ranges that come back are those that the host has to read itself: what was found there is true,
/// but not all.
pub fn search(
    ctx: usize,
    ranges: &[Range],
    targets: Targets,
    mut found: impl FnMut(u32, Hit),
) -> Result<Vec<Range>, CUresult> {
    let mut left = Vec::new();
    let Some(kernels) = stream::kernels(ctx) else { return Ok(ranges.to_vec()) };
    let Ok(shared) = shared(ctx) else { return Ok(ranges.to_vec()) };
    fault::point("search", "");
    let shared = shared as *mut Shared;
    let mut todo: Vec<&[Range]> = ranges.chunks(RANGES).collect();
    while let Some(batch) = todo.pop() {
        let mut chunks = 0u32;
        for (i, range) in batch.iter().enumerate() {
            let words = range.bytes / 8;
            let told = Told { at: range.at, words, source: range.source, first_chunk: chunks };
            // SAFETY: `i` is below RANGES; the memory is ours, and no kernel runs on it: the ticket
            // is held, and the last launch was waited for.
            unsafe { (&raw mut (*shared).ranges[i]).write_volatile(told) };
            // No card has so much memory that they could not be counted.
            chunks = chunks.saturating_add(words.div_ceil(CHUNK) as u32);
        }
        // SAFETY: as above.
        unsafe { (&raw mut (*shared).taken).write_volatile(0) };
        if chunks == 0 {
            continue;
        }
        let call = Search {
            // SAFETY: inside the memory; nothing is read.
            ranges: unsafe { &raw const (*shared).ranges } as u64,
            count: batch.len() as u32,
            chunks,
            targets: targets.told(),
            // SAFETY: as above.
            found: unsafe { &raw const (*shared).found } as u64,
            room: ROOM as u64,
            // SAFETY: as above.
            taken: unsafe { &raw const (*shared).taken } as u64,
        };
        stream::run(ctx, |queue| queue.search(kernels, &call))?;
        // SAFETY: the kernel has finished.
        let taken = unsafe { (&raw const (*shared).taken).read_volatile() } as usize;
        for i in 0..taken.min(ROOM) {
            // SAFETY: as above; `i` is below ROOM.
            let entry = unsafe { (&raw const (*shared).found[i]).read_volatile() };
            found((entry >> 40) as u32, Hit::told(entry & ((1 << 40) - 1)));
        }
        if taken > ROOM {
            // In fewer ranges there may be few enough.
            match batch {
                [one] => left.push(*one),
                many => todo.extend([&many[..many.len() / 2], &many[many.len() / 2..]]),
            }
        }
    }
    Ok(left)
}
