//! The conservative scan: which blocks are named by words in memory.
//!
//! A victim that any word of a root points into stays. Roots: every mapped block that is not a
//! victim itself, slabs, known module globals, pinned and registered host memory. The world is
//! stopped and fenced, and the ticket is held, so nothing moves a pointer meanwhile and no
//! mapping goes away. Words are read at 8-byte steps; a pointer one past the end of a block hits
//! its guard granule and counts as that block.

use super::block::{BLOCKS, Kind};
use super::fence;
use super::memory::runs;
use super::state::State;
use super::ticket::{STAGING, Work};
use crate::driver::{self, CUresult, Handle, code};
use crate::heap::{MAP, View};
use crate::registry::{globals, host};
use crate::stats;
use parking_lot::Mutex;
use std::collections::HashSet;

/// Granules that words of memory point into.
pub type Hits = HashSet<u64>;

/// Adds the granule of every word in `bytes` that looks like a heap address.
pub fn words(bytes: &[u8], view: View, hits: &mut Hits) {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let mut last = u64::MAX;
    let mut look = |word: u64| {
        let offset = word.wrapping_sub(view.base());
        if offset < view.span() {
            let granule = offset >> view.shift();
            if granule != last {
                last = granule;
                hits.insert(granule);
            }
        }
    };
    for chunk in chunks {
        let (row, _) = chunk.as_chunks::<8>();
        // One cheap test for eight words: almost all memory holds no address at all.
        let near = row.iter().fold(false, |any, w| {
            any | (u64::from_le_bytes(*w).wrapping_sub(view.base()) < view.span())
        });
        if near {
            row.iter().for_each(|w| look(u64::from_le_bytes(*w)));
        }
    }
    rest.as_chunks::<8>().0.iter().for_each(|w| look(u64::from_le_bytes(*w)));
}

/// Copies device memory to the host and waits; on an internal stream of `ctx`.
pub fn download(ctx: usize, ptr: u64, out: &mut [u8]) -> Result<(), CUresult> {
    on_stream(ctx, |api, stream| {
        // SAFETY: the caller holds the ticket, so `ptr` stays mapped; `out` is exclusive and the
        // stream is waited for before it is used.
        unsafe { (api.cuMemcpyDtoHAsync_v2)(out.as_mut_ptr().cast(), ptr, out.len(), stream) }
    })
}

/// Copies host bytes to the device and waits.
pub fn upload(ctx: usize, ptr: u64, bytes: &[u8]) -> Result<(), CUresult> {
    on_stream(ctx, |api, stream| {
        // SAFETY: the range was mapped by the caller and nobody else may use it yet; `bytes`
        // outlives the wait below.
        unsafe { (api.cuMemcpyHtoDAsync_v2)(ptr, bytes.as_ptr().cast(), bytes.len(), stream) }
    })
}

static STREAMS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Forgets the internal stream of a context that has gone.
pub fn context_gone(ctx: usize) {
    STREAMS.lock().retain(|&(c, _)| c != ctx);
}

/// Destroys the internal stream of a context that is about to go.
pub fn context_going(ctx: usize) {
    let stream = STREAMS.lock().iter().find(|&&(c, _)| c == ctx).map(|&(_, s)| s);
    if let Some(stream) = stream {
        context_gone(ctx);
        // SAFETY: our own stream; nothing of ours is queued on it outside a ticket.
        let _ = fence::in_context(ctx, |api| unsafe {
            (api.cuStreamDestroy_v2)(stream as Handle)
        });
    }
}

fn on_stream(
    ctx: usize,
    enqueue: impl FnOnce(&driver::Api, Handle) -> CUresult,
) -> Result<(), CUresult> {
    let known = STREAMS.lock().iter().find(|&&(c, _)| c == ctx).map(|&(_, s)| s);
    fence::in_context(ctx, |api| {
        let stream = match known {
            Some(stream) => stream as Handle,
            None => {
                let mut stream = std::ptr::null_mut();
                const NON_BLOCKING: u32 = 1;
                // SAFETY: `stream` is a live local.
                match unsafe { (api.cuStreamCreate)(&mut stream, NON_BLOCKING) } {
                    code::SUCCESS => {}
                    e => return Err(e),
                }
                STREAMS.lock().push((ctx, stream as usize));
                stream
            }
        };
        match enqueue(api, stream) {
            code::SUCCESS => {}
            e => return Err(e),
        }
        // SAFETY: our own stream of this context.
        match unsafe { (api.cuStreamSynchronize)(stream) } {
            code::SUCCESS => Ok(()),
            e => Err(e),
        }
    })?
}

/// Scans every root but the blocks in `victims`.
pub fn roots(victims: &HashSet<u32>, work: &mut Work) -> Result<Hits, CUresult> {
    let view = MAP.view();
    let mut hits = Hits::new();
    let mut scanned = 0u64;
    let granule = 1u64 << view.shift();
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if victims.contains(&id) || block.word.load().state() != State::Resident {
            continue;
        }
        let live = block.kind() != Kind::Slab || block.cold.lock().slots.iter().any(|s| s.size > 0);
        if !live {
            continue;
        }
        let ctx = fence::context_on(block.device()).ok_or(code::INVALID_CONTEXT)?;
        let runs = runs(&block.cold.lock().extents);
        for (first, granules) in runs {
            let start = block.base() + u64::from(first) * granule;
            let bytes = u64::from(granules) * granule;
            scanned += bytes;
            device_range(ctx, start, bytes, view, &mut hits, &mut work.staging)?;
        }
    }
    for (ptr, len, device) in globals::snapshot() {
        let Some(ctx) = fence::context_on(device) else { continue };
        scanned += len as u64;
        device_range(ctx, ptr, len as u64, view, &mut hits, &mut work.staging)?;
    }
    for (ptr, len) in host::snapshot() {
        scanned += len as u64;
        host_range(ptr, len, view, &mut hits, &mut work.staging);
    }
    stats::page().scan_bytes.add(scanned);
    Ok(hits)
}

fn device_range(
    ctx: usize,
    start: u64,
    bytes: u64,
    view: View,
    hits: &mut Hits,
    staging: &mut [u8],
) -> Result<(), CUresult> {
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(STAGING as u64) as usize;
        download(ctx, start + at, &mut staging[..n])?;
        words(&staging[..n], view, hits);
        at += n as u64;
    }
    Ok(())
}

/// Host memory the program registered may be gone without our knowing, so the kernel reads it
/// for us: a hole is an error there, not a fault here.
pub fn host_range(ptr: usize, len: usize, view: View, hits: &mut Hits, staging: &mut [u8]) {
    let mut at = 0;
    while at < len {
        let n = (len - at).min(staging.len());
        let local = libc::iovec { iov_base: staging.as_mut_ptr().cast(), iov_len: n };
        let remote = libc::iovec { iov_base: (ptr + at) as *mut libc::c_void, iov_len: n };
        // SAFETY: `local` is an exclusive live buffer; the kernel checks `remote`.
        let got = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        let got = usize::try_from(got).unwrap_or(0);
        words(&staging[..got], view, hits);
        if got == 0 {
            // Forbidden (seccomp) or a hole: step over one page.
            at += 4096 - (ptr + at) % 4096;
        } else {
            at += got;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::GranuleMap;

    #[test]
    fn finds_addresses_at_every_word_and_nothing_else() {
        let map = GranuleMap::new();
        map.install(0x7E00_0000_0000, 1 << 30, 21).expect("a small table");
        let view = map.view();
        for at in 0..40 {
            let mut bytes = vec![0x11u8; 40 * 8 + 3];
            let address = 0x7E00_0000_0000u64 + (5 << 21) + 17;
            bytes[at * 8..at * 8 + 8].copy_from_slice(&address.to_le_bytes());
            let mut hits = Hits::new();
            words(&bytes, view, &mut hits);
            assert_eq!(hits.into_iter().collect::<Vec<_>>(), [5], "word {at}");
        }
        let mut hits = Hits::new();
        for outside in [0u64, 0x7DFF_FFFF_FFFF, 0x7E00_4000_0000, u64::MAX] {
            words(&outside.to_le_bytes().repeat(16), view, &mut hits);
        }
        assert!(hits.is_empty());
    }

    #[test]
    fn a_hole_in_registered_memory_is_no_fault() {
        let map = GranuleMap::new();
        map.install(0x7E00_0000_0000, 1 << 30, 21).expect("a small table");
        let mut hits = Hits::new();
        host_range(4096, 8192, map.view(), &mut hits, &mut [0; 4096]);
        let word = 0x7E00_0000_0000u64;
        let host = [word; 4];
        host_range(host.as_ptr() as usize, 32, map.view(), &mut hits, &mut [0; 4096]);
        assert_eq!(hits.len(), 1);
    }
}
