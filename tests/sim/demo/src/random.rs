//! Seeded random numbers (splitmix64): every choice of a run comes from here.

/// A generator; the same seed gives the same run on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// A number below `end`; zero for an empty range.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number from `low` to `high`, small ones as likely as large ones on a logarithmic scale.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        let octaves = (high.max(low) / low.max(1)).ilog2() as usize;
        let base = low << self.below(octaves + 1);
        (base + self.below(base)).min(high.max(low))
    }

    /// An element; `None` for an empty slice.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }

    /// Puts a slice in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_inside_and_reach_every_octave() {
        let mut random = Random::new(1);
        let mut octaves = [0; 8];
        for _ in 0..1000 {
            let size = random.size(512, 100_000);
            assert!((512..=100_000).contains(&size));
            octaves[(size / 512).ilog2() as usize] += 1;
        }
        assert!(octaves.iter().all(|&n| n > 0), "{octaves:?}");
        assert_eq!(random.size(8, 8), 8);
        assert_eq!(random.below(0), 0);
    }
}
