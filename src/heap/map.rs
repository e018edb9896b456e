//! Granule map: which block covers an address. Lock-free for readers, no bounds beyond one
//! compare.

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Address -> block id, one 32-bit entry per granule; 0 means none.
#[derive(Debug)]
pub struct GranuleMap {
    base: AtomicU64,
    span: AtomicU64,
    shift: AtomicU32,
    table: AtomicPtr<AtomicU32>,
}

/// The map's fields, loaded once per hook.
#[derive(Clone, Copy, Debug)]
pub struct View {
    base: u64,
    span: u64,
    shift: u32,
    table: *const AtomicU32,
}

impl Default for GranuleMap {
    fn default() -> Self {
        Self::new()
    }
}

impl GranuleMap {
    /// A map that covers nothing.
    pub const fn new() -> Self {
        GranuleMap {
            base: AtomicU64::new(u64::MAX),
            span: AtomicU64::new(0),
            shift: AtomicU32::new(0),
            table: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Covers `base..base + span` in granules of `1 << shift` bytes. Called once, before any
    /// address of the range is handed out. Fails when the table cannot be had.
    pub fn install(&self, base: u64, span: u64, shift: u32) -> io::Result<()> {
        let entries = (span >> shift) as usize;
        let bytes =
            entries.checked_mul(size_of::<AtomicU32>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing else.
        let table = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if table == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.table.store(table.cast(), Ordering::Release);
        self.shift.store(shift, Ordering::Release);
        self.base.store(base, Ordering::Release);
        self.span.store(span, Ordering::Release);
        Ok(())
    }

    /// The fields as they are now.
    #[inline]
    pub fn view(&self) -> View {
        // The span is stored last and loaded first: with a span the rest is there.
        let span = self.span.load(Ordering::Acquire);
        View {
            base: self.base.load(Ordering::Relaxed),
            span,
            shift: self.shift.load(Ordering::Relaxed),
            table: self.table.load(Ordering::Relaxed),
        }
    }

    /// True for an address inside the heap.
    #[inline]
    pub fn covers(&self, ptr: u64) -> bool {
        ptr.wrapping_sub(self.base.load(Ordering::Relaxed)) < self.span.load(Ordering::Relaxed)
    }
}

impl View {
    /// Base, bytes, shift and entries, for a loop that keeps them in registers.
    #[inline(always)]
    pub fn parts(&self) -> (u64, u64, u32, *const AtomicU32) {
        (self.base, self.span, self.shift, self.table)
    }

    /// The block id at `ptr`: `None` outside the heap, 0 where no block is.
    #[inline]
    pub fn lookup(&self, ptr: u64) -> Option<u32> {
        let offset = ptr.wrapping_sub(self.base);
        if offset >= self.span {
            return None;
        }
        Some(self.entry(offset >> self.shift).load(Ordering::Acquire))
    }

    /// Points every granule of `start..start + granules` (counted from the base) at `id`.
    pub fn set(&self, start: u64, granules: u64, id: u32) {
        for granule in start..start + granules {
            self.entry(granule).store(id, Ordering::Release);
        }
    }

    /// The id at a granule counted from the base; 0 beyond the heap.
    pub fn at(&self, granule: u64) -> u32 {
        if granule < self.span >> self.shift {
            self.entry(granule).load(Ordering::Acquire)
        } else {
            0
        }
    }

    /// First address of the heap.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of the heap; 0 before it is installed.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// log2 of the granule.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    #[inline]
    fn entry(&self, granule: u64) -> &AtomicU32 {
        debug_assert!(granule < self.span >> self.shift);
        // SAFETY: the table has span >> shift entries for as long as the process lives (install
        // never frees or replaces it); every caller keeps granule below that.
        unsafe { &*self.table.add(granule as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_exactly_its_range() {
        let map = GranuleMap::new();
        assert!(!map.covers(0) && !map.covers(u64::MAX));
        map.install(0x1000_0000, 16 << 12, 12).expect("a small table");
        let view = map.view();
        assert_eq!(view.lookup(0x0FFF_FFFF), None);
        assert_eq!(view.lookup(0x1000_0000), Some(0));
        assert_eq!(view.lookup(0x1001_0000), None);
        view.set(2, 3, 7);
        let ids: Vec<_> = (0..8).map(|g| view.at(g)).collect();
        assert_eq!(ids, [0, 0, 7, 7, 7, 0, 0, 0]);
        assert_eq!(view.lookup(0x1000_2FFF), Some(7));
        assert_eq!(view.at(99), 0);
    }
}
