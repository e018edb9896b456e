//! A pure allocator of integer ranges: best fit, coalescing, no memory behind it.
//!
//! Owns: which parts of `0..len` are free. Used in granules for the virtual heap and in bytes
//! inside shared blocks and slabs. Not synchronised; callers lock.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

/// Free and used parts of `0..len`.
#[derive(Debug, Default)]
pub struct RangeAllocator {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    free: u64,
}

impl RangeAllocator {
    /// Everything in `0..len` is free.
    pub fn new(len: u64) -> Self {
        let mut ranges = RangeAllocator::default();
        ranges.release(0, len);
        ranges
    }

    /// Free units in all.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// The longest free range.
    pub fn largest(&self) -> u64 {
        self.by_len.last().map_or(0, |&(len, _)| len)
    }

    /// Takes `len` units from the smallest range that has them; the lowest address on a tie.
    pub fn take(&mut self, len: u64) -> Option<u64> {
        if len == 0 {
            return None;
        }
        let &(have, start) = self.by_len.range((len, 0)..).next()?;
        self.unlink(start, have);
        if have > len {
            self.link(start + len, have - len);
        }
        Some(start)
    }

    /// Gives `start..start + len` back; merges with its neighbours.
    ///
    /// # Panics
    /// In debug builds when part of the range is free already.
    pub fn release(&mut self, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (mut start, mut len) = (start, len);
        if let Some((&before, &before_len)) = self.by_start.range(..=start).next_back() {
            debug_assert!(before + before_len <= start, "released twice: {start}+{len}");
            if before + before_len == start {
                self.unlink(before, before_len);
                start = before;
                len += before_len;
            }
        }
        if let Some((&after, &after_len)) = self.by_start.range(start + len..).next()
            && after == start + len
        {
            self.unlink(after, after_len);
            len += after_len;
        }
        self.link(start, len);
    }

    /// The free ranges in address order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(&start, &len)| (start, len))
    }

    fn link(&mut self, start: u64, len: u64) {
        self.by_start.insert(start, len);
        self.by_len.insert((len, start));
        self.free += len;
    }

    fn unlink(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.free -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a bitmap: no overlap, nothing lost, best fit finds a place whenever one exists.
        #[test]
        fn agrees_with_a_bitmap(ops in proptest::collection::vec((any::<bool>(), 1u64..40, any::<usize>()), 0..300)) {
            const LEN: usize = 512;
            let mut ranges = RangeAllocator::new(LEN as u64);
            let mut used = [false; LEN];
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (take, len, pick) in ops {
                if take {
                    let mut run = 0u64;
                    let mut best = 0u64;
                    for &u in &used {
                        run = if u { 0 } else { run + 1 };
                        best = best.max(run);
                    }
                    prop_assert_eq!(ranges.largest(), best);
                    match ranges.take(len) {
                        Some(start) => {
                            for u in &mut used[start as usize..(start + len) as usize] {
                                prop_assert!(!*u);
                                *u = true;
                            }
                            live.push((start, len));
                        }
                        None => prop_assert!(best < len),
                    }
                } else if !live.is_empty() {
                    let (start, len) = live.swap_remove(pick % live.len());
                    ranges.release(start, len);
                    used[start as usize..(start + len) as usize].fill(false);
                }
                prop_assert_eq!(ranges.free(), used.iter().filter(|u| !**u).count() as u64);
            }
        }
    }
}
