//! The pool of ready handles of one device, by size class. Pure bookkeeping; callers lock.
#![forbid(unsafe_code)]

use super::Handle;

/// Handle sizes in granules, small to large. Few and coarse: the driver's cost is per call.
pub const CLASSES: [u32; 4] = [1, 4, 16, 32];

/// Splits a number of granules into handle sizes, large first.
pub fn split(granules: u32) -> impl Iterator<Item = u32> {
    let mut left = granules;
    std::iter::from_fn(move || {
        let class = *CLASSES.iter().rev().find(|&&c| c <= left)?;
        left -= class;
        Some(class)
    })
}

/// Handles that are mapped nowhere and charged under the limit.
#[derive(Debug, Default)]
pub struct Pool {
    ready: [Vec<u64>; CLASSES.len()],
    granules: u64,
}

impl Pool {
    /// Granules in the pool.
    pub fn granules(&self) -> u64 {
        self.granules
    }

    /// Puts a handle in.
    pub fn put(&mut self, handle: Handle) {
        if let Some(i) = CLASSES.iter().position(|&c| c == handle.granules) {
            self.ready[i].push(handle.raw);
            self.granules += u64::from(handle.granules);
        }
    }

    /// Takes handles of at most `granules` in all, large first; what is missing must be created.
    pub fn take_up_to(&mut self, granules: u32) -> Vec<Handle> {
        let mut left = granules;
        let mut out = Vec::new();
        for (i, &class) in CLASSES.iter().enumerate().rev() {
            while left >= class {
                let Some(raw) = self.ready[i].pop() else { break };
                left -= class;
                self.granules -= u64::from(class);
                out.push(Handle { raw, granules: class });
            }
        }
        out
    }

    /// Takes whole handles until at least `granules` are out or the pool is empty; for giving
    /// them back to the driver.
    pub fn drain_at_least(&mut self, granules: u64) -> Vec<Handle> {
        let mut out = Vec::new();
        let mut got = 0;
        for (i, &class) in CLASSES.iter().enumerate().rev() {
            while got < granules {
                let Some(raw) = self.ready[i].pop() else { break };
                got += u64::from(class);
                self.granules -= u64::from(class);
                out.push(Handle { raw, granules: class });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn split_covers_exactly(granules in 0u32..5000) {
            let parts: Vec<_> = split(granules).collect();
            prop_assert_eq!(parts.iter().sum::<u32>(), granules);
            prop_assert!(parts.iter().all(|p| CLASSES.contains(p)));
            prop_assert!(parts.is_sorted_by(|a, b| a >= b));
        }

        #[test]
        fn nothing_is_lost(puts in proptest::collection::vec(0usize..4, 0..50), want in 0u32..200) {
            let mut pool = Pool::default();
            for (raw, class) in puts.iter().enumerate() {
                pool.put(Handle { raw: raw as u64, granules: CLASSES[*class] });
            }
            let before = pool.granules();
            let taken = pool.take_up_to(want);
            let sum: u64 = taken.iter().map(|h| u64::from(h.granules)).sum();
            prop_assert!(sum <= u64::from(want));
            prop_assert_eq!(pool.granules() + sum, before);
            let all = pool.drain_at_least(u64::MAX);
            prop_assert_eq!(pool.granules(), 0);
            prop_assert_eq!(all.len() + taken.len(), puts.len());
        }
    }
}
