//! Pinned and registered host memory: the device can read it, so it can hold addresses.
//!
//! A range is *exposed* once the device has been given its address (in a parameter, in a copied
//! payload, or found in device memory): from then on a kernel may follow what the CPU writes
//! there.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug)]
struct Range {
    len: usize,
    exposed: AtomicBool,
}

static RANGES: RwLock<BTreeMap<usize, Range>> = RwLock::new(BTreeMap::new());
static BASE: AtomicU64 = AtomicU64::new(0);
static SPAN: AtomicU64 = AtomicU64::new(0);
static EXPOSED: AtomicU64 = AtomicU64::new(0);

/// Remembers a range.
pub fn add(ptr: usize, len: usize) {
    if len == 0 {
        return;
    }
    let mut ranges = RANGES.write();
    ranges.insert(ptr, Range { len, exposed: AtomicBool::new(false) });
    refresh(&ranges);
}

/// Forgets the range that starts at `ptr`, if one does; its bytes.
pub fn remove(ptr: usize) -> Option<usize> {
    let mut ranges = RANGES.write();
    let range = ranges.remove(&ptr)?;
    if range.exposed.into_inner() {
        EXPOSED.fetch_sub(1, Ordering::AcqRel);
    }
    refresh(&ranges);
    Some(range.len)
}

fn refresh(ranges: &BTreeMap<usize, Range>) {
    let first = ranges.keys().next().copied().unwrap_or(0);
    let end = ranges.iter().map(|(&p, r)| p + r.len).max().unwrap_or(0);
    // A reader between the two stores sees a span that is too small or too large for the base;
    // both are hints that `expose` checks again, and the scan runs with the world stopped.
    BASE.store(first as u64, Ordering::Release);
    SPAN.store((end - first) as u64, Ordering::Release);
}

/// The smallest range that contains all: (first byte, bytes).
pub fn bounds() -> (u64, u64) {
    (BASE.load(Ordering::Acquire), SPAN.load(Ordering::Acquire))
}

/// All: (first byte, bytes).
pub fn snapshot() -> Vec<(usize, usize)> {
    RANGES.read().iter().map(|(&p, r)| (p, r.len)).collect()
}

/// The device may know the 4 KiB around this address.
pub fn expose(address: u64) {
    let (base, span) = bounds();
    let page = address & !4095;
    if address.wrapping_sub(base) >= span && page.wrapping_sub(base) >= span {
        return;
    }
    let ranges = RANGES.read();
    let end = page as usize + 4096;
    for (&start, range) in ranges.range(..end).rev() {
        if start + range.len > page as usize {
            if !range.exposed.swap(true, Ordering::AcqRel) {
                EXPOSED.fetch_add(1, Ordering::AcqRel);
            }
        } else {
            break;
        }
    }
}

/// The exposed ranges; one load when there are none.
pub fn exposed() -> Vec<(usize, usize)> {
    if EXPOSED.load(Ordering::Acquire) == 0 {
        return Vec::new();
    }
    let ranges = RANGES.read();
    let exposed = ranges.iter().filter(|(_, r)| r.exposed.load(Ordering::Acquire));
    exposed.map(|(&p, r)| (p, r.len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ranges_are_the_ones_named() {
        add(0x1000_0000, 8192);
        add(0x2000_0000, 100);
        assert_eq!(bounds(), (0x1000_0000, 0x1000_0000 + 100));
        assert!(exposed().is_empty());
        expose(0x3000_0000);
        expose(0x1800_0000);
        assert!(exposed().is_empty());
        expose(0x2000_0000 + 40);
        assert_eq!(exposed(), [(0x2000_0000, 100)]);
        expose(0x1000_0000 + 8191);
        assert_eq!(exposed().len(), 2);
        remove(0x2000_0000);
        assert_eq!(exposed(), [(0x1000_0000, 8192)]);
        remove(0x1000_0000);
        assert!(exposed().is_empty() && snapshot().is_empty());
    }
}
