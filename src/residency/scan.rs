//! The conservative scan: which blocks are named by words in memory.
//!
//! A victim that any word of a root points into stays. Roots: every mapped block that is not a
//! victim itself, slabs, known module globals, pinned and registered host memory. The world is
//! stopped and fenced, and the ticket is held, so nothing moves a pointer meanwhile and no
//! mapping goes away. Words are read at 8-byte steps; a pointer one past the end of a block hits
//! its guard granule and counts as that block. Pinned host memory whose address is found is
//! *exposed*: the device can follow it, so later launches look at what the CPU wrote there.

use super::block::{BLOCKS, Kind};
use super::fence;
use super::memory::runs;
use super::search::{self, Range};
use super::state::State;
use super::stream::download;
use super::ticket::{STAGING, Work};
use crate::driver::{CUresult, code};
use crate::fault;
use crate::heap::{MAP, View};
use crate::registry::{globals, host};
use crate::stats;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What words of memory point into.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// Granules of the heap.
    pub granules: HashSet<u64>,
    /// Addresses of pinned host memory, one for each 4 KiB.
    pub hosts: HashSet<u64>,
}

/// What one word points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// A granule of the heap.
    Granule(u64),
    /// A page of pinned host memory.
    Host(u64),
}

impl Hit {
    /// Out of what the kernel says (`cp_scan_target`).
    pub fn told(target: u64) -> Hit {
        const HOST: u64 = 1 << 39;
        if target & HOST == 0 { Hit::Granule(target) } else { Hit::Host((target & !HOST) << 12) }
    }
}

/// The two ranges a scan looks for.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    view: View,
    host: (u64, u64),
}

impl Targets {
    /// The heap and what the program has pinned, as they are now.
    pub fn now() -> Targets {
        Targets { view: MAP.view(), host: host::bounds() }
    }

    /// As the kernel takes them: start and bytes of the heap, of host memory, log2 of the granule.
    pub fn told(&self) -> [u64; 5] {
        let (view, host) = (&self.view, self.host);
        [view.base(), view.span(), host.0, host.1, u64::from(view.shift())]
    }

    #[inline]
    fn near(&self, word: u64) -> bool {
        (word.wrapping_sub(self.view.base()) < self.view.span())
            | (word.wrapping_sub(self.host.0) < self.host.1)
    }
}

impl Hits {
    /// Adds the target of every word in `bytes` that looks like an address of one.
    pub fn add(&mut self, bytes: &[u8], targets: Targets) {
        let (chunks, rest) = bytes.as_chunks::<64>();
        let mut last = u64::MAX;
        for chunk in chunks {
            let (row, _) = chunk.as_chunks::<8>();
            // One cheap test for eight words: almost all memory holds no address at all.
            let near = row.iter().fold(false, |any, w| any | targets.near(u64::from_le_bytes(*w)));
            if near {
                row.iter().for_each(|w| self.look(u64::from_le_bytes(*w), targets, &mut last));
            }
        }
        for word in rest.as_chunks::<8>().0 {
            self.look(u64::from_le_bytes(*word), targets, &mut last);
        }
    }

    fn insert(&mut self, hit: Hit) {
        match hit {
            Hit::Granule(granule) => self.granules.insert(granule),
            Hit::Host(page) => self.hosts.insert(page),
        };
    }

    fn look(&mut self, word: u64, targets: Targets, last: &mut u64) {
        let offset = word.wrapping_sub(targets.view.base());
        if offset < targets.view.span() {
            let granule = offset >> targets.view.shift();
            if granule != *last {
                *last = granule;
                self.granules.insert(granule);
            }
        } else if word.wrapping_sub(targets.host.0) < targets.host.1 {
            self.hosts.insert(word & !4095);
        }
    }

    /// Notes that the device knows the host memory found here.
    pub fn expose(&self) {
        for &address in &self.hosts {
            host::expose(address);
        }
    }
}

/// What memory names which blocks.
#[derive(Debug, Default)]
pub struct Graph {
    /// Blocks that are named by what stays for certain: slabs, pinned blocks, module globals,
    /// pinned host memory.
    pub held: HashSet<u32>,
    /// For each candidate, the granules its words point into.
    names: HashMap<u32, HashSet<u64>>,
}

impl Graph {
    /// The blocks that a candidate names, itself not among them.
    pub fn named_by(&self, id: u32) -> Vec<u32> {
        let granules = self.names.get(&id);
        granules.map_or_else(Vec::new, |g| blocks_at(g, Some(id)))
    }

    /// Granules that the words of a candidate point into.
    pub fn granules_of(&self, id: u32) -> Vec<u64> {
        self.names.get(&id).into_iter().flatten().copied().collect()
    }

    /// The candidates that name a block, by block.
    pub fn namers(&self) -> HashMap<u32, Vec<u32>> {
        let mut out: HashMap<u32, Vec<u32>> = HashMap::new();
        for &id in self.names.keys() {
            for named in self.named_by(id) {
                out.entry(named).or_default().push(id);
            }
        }
        out
    }
}

fn blocks_at(granules: &HashSet<u64>, but: Option<u32>) -> Vec<u32> {
    let view = MAP.view();
    let mut ids: Vec<u32> = granules.iter().map(|&g| view.at(g)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|&id| id != 0 && Some(id) != but);
    ids
}

/// Scans everything that can hold an address: resident blocks, module globals, pinned host
/// memory. Words of `candidates` are kept apart, those of everything else hold what they name.
pub fn graph(candidates: &HashSet<u32>, work: &mut Work) -> Result<Graph, CUresult> {
    let targets = Targets::now();
    let mut graph = Graph::default();
    let mut scanned = 0u64;
    let granule = 1u64 << targets.view.shift();
    // By device. Source 0 is all that is no candidate, others are the candidates by number.
    let mut ranges: BTreeMap<u8, Vec<Range>> = BTreeMap::new();
    let mut sources = vec![0u32];
    fault::point("scan", "");
    for id in BLOCKS.ids() {
        let block = BLOCKS.get(id);
        if block.word.load().state() != State::Resident {
            continue;
        }
        let live = block.kind() != Kind::Slab || block.cold.lock().slots.iter().any(|s| s.size > 0);
        if !live {
            continue;
        }
        let mut source = 0;
        if candidates.contains(&id) {
            source = sources.len() as u32;
            sources.push(id);
        }
        let of_device = ranges.entry(block.device()).or_default();
        for (first, granules) in runs(&block.cold.lock().extents) {
            let at = block.base() + u64::from(first) * granule;
            of_device.push(Range { at, bytes: u64::from(granules) * granule, source });
        }
    }
    if sources.len() > search::SOURCES {
        return Err(code::OUT_OF_MEMORY);
    }
    let mut found: Vec<Hits> = vec![Hits::default(); sources.len()];
    for (device, ranges) in ranges {
        let ctx = fence::context_on(device).ok_or(code::INVALID_CONTEXT)?;
        scanned += ranges.iter().map(|range| range.bytes).sum::<u64>();
        device_ranges(ctx, &ranges, targets, &mut found, &mut work.staging)?;
    }
    // Copies reach them from any context; a kernel reaches those of its own context, and constants
    // perhaps not.
    let reading = globals::read().ok_or(code::NOT_READY)?;
    for &(ptr, len, device) in &reading.all {
        let Some(ctx) = fence::context_on(device) else { continue };
        scanned += len as u64;
        device_range(ctx, ptr, len as u64, targets, &mut found[0], &mut work.staging)?;
    }
    drop(reading);
    let mut found = found.into_iter();
    let mut hits = found.next().unwrap_or_default();
    for (own, &id) in found.zip(&sources[1..]) {
        own.expose();
        graph.names.insert(id, own.granules);
    }
    // Asked even where nothing is pinned: while a block is away, the bytes of every copy to the
    // device have to be looked at.
    let probe = &raw const targets;
    host_range(probe as usize, 8, targets, &mut Hits::default(), &mut work.staging)?;
    for (ptr, len) in host::snapshot() {
        scanned += len as u64;
        host_range(ptr, len, targets, &mut hits, &mut work.staging)?;
    }
    hits.expose();
    graph.held.extend(blocks_at(&hits.granules, None));
    stats::page().scan_bytes.add(scanned);
    Ok(graph)
}

/// Looks through blocks of one device: a kernel does where it can, the host does the rest.
fn device_ranges(
    ctx: usize,
    ranges: &[Range],
    targets: Targets,
    found: &mut [Hits],
    staging: &mut [u8],
) -> Result<(), CUresult> {
    let left = search::search(ctx, ranges, targets, |source, hit| {
        if let Some(hits) = found.get_mut(source as usize) {
            hits.insert(hit);
        }
    })?;
    for range in left {
        let Some(hits) = found.get_mut(range.source as usize) else { continue };
        device_range(ctx, range.at, range.bytes, targets, hits, staging)?;
    }
    Ok(())
}

fn device_range(
    ctx: usize,
    start: u64,
    bytes: u64,
    targets: Targets,
    hits: &mut Hits,
    staging: &mut [u8],
) -> Result<(), CUresult> {
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(STAGING as u64) as usize;
        download(ctx, start + at, &mut staging[..n])?;
        hits.add(&staging[..n], targets);
        at += n as u64;
    }
    Ok(())
}

/// Host memory the program registered may be gone without our knowing, so the kernel reads it
/// for us: a hole is an error there, not a fault here. An error means that it cannot be looked at
/// at all; what stands there is unknown then, and may name anything.
pub fn host_range(
    ptr: usize,
    len: usize,
    targets: Targets,
    hits: &mut Hits,
    staging: &mut [u8],
) -> Result<(), CUresult> {
    let mut at = 0;
    while at < len {
        let n = (len - at).min(staging.len());
        let got = host_bytes(ptr + at, &mut staging[..n])?;
        hits.add(&staging[..got], targets);
        if got == 0 {
            // A hole: step over one page.
            at += 4096 - (ptr + at) % 4096;
        } else if got < n {
            // Read up to a hole: words stay aligned, since pages are.
            at += got.next_multiple_of(8);
        } else {
            at += got;
        }
    }
    Ok(())
}

/// Reads from `at` up to the next hole; 0 in one.
fn host_bytes(at: usize, out: &mut [u8]) -> Result<usize, CUresult> {
    let local = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: out.len() };
    let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: out.len() };
    // SAFETY: `local` is an exclusive live buffer; the kernel checks `remote`.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    if let Ok(got) = usize::try_from(got) {
        return Ok(got);
    }
    if io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT) {
        return Ok(0);
    }
    // Containers often forbid that call. The other way needs a descriptor, and this is why none
    // is kept: it works after a fork and when the program closes what it does not know.
    let read = File::open("/proc/self/mem").and_then(|memory| {
        loop {
            match memory.read_at(out, at as u64) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EIO | libc::EFAULT)) => {
                    return Ok(0);
                }
                done => return done,
            }
        }
    });
    read.map_err(|e| {
        crate::say::once(
            "host-unread",
            &format!("host memory cannot be looked at ({e}): nothing is evicted meanwhile"),
        );
        code::NOT_PERMITTED
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::GranuleMap;

    fn targets(map: &GranuleMap) -> Targets {
        map.install(0x7E00_0000_0000, 1 << 30, 21).expect("a small table");
        Targets { view: map.view(), host: (0x7F00_0000_0000, 8192) }
    }

    #[test]
    fn finds_addresses_at_every_word_and_nothing_else() {
        let map = GranuleMap::new();
        let targets = targets(&map);
        for at in 0..40 {
            let mut bytes = vec![0x11u8; 40 * 8 + 3];
            let address = 0x7E00_0000_0000u64 + (5 << 21) + 17;
            bytes[at * 8..at * 8 + 8].copy_from_slice(&address.to_le_bytes());
            let mut hits = Hits::default();
            hits.add(&bytes, targets);
            assert_eq!(hits.granules.into_iter().collect::<Vec<_>>(), [5], "word {at}");
        }
        let mut hits = Hits::default();
        for outside in [0u64, 0x7DFF_FFFF_FFFF, 0x7E00_4000_0000, 0x7F00_0000_2000, u64::MAX] {
            hits.add(&outside.to_le_bytes().repeat(16), targets);
        }
        assert!(hits.granules.is_empty() && hits.hosts.is_empty());
        hits.add(&0x7F00_0000_1008u64.to_le_bytes(), targets);
        assert_eq!(hits.hosts.into_iter().collect::<Vec<_>>(), [0x7F00_0000_1000]);
    }

    #[test]
    fn a_hole_in_registered_memory_is_no_fault() {
        let map = GranuleMap::new();
        let targets = targets(&map);
        let mut hits = Hits::default();
        host_range(4096, 8192, targets, &mut hits, &mut [0; 4096]).expect("a hole");
        let word = 0x7E00_0000_0000u64;
        let host = [word; 4];
        let at = host.as_ptr() as usize;
        host_range(at, 32, targets, &mut hits, &mut [0; 4096]).expect("readable");
        assert_eq!(hits.granules.len(), 1);
    }
}
