//! What a statistics page is made of. Everything is 64-bit words that are read and written
//! atomically, so a page of zeros is valid and any process may read it at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number. Counters only grow; gauges are set.
#[derive(Debug)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes `n` away.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets it to `n`.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Its value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The word itself, for those who need more than relaxed order.
    pub(super) fn word(&self) -> &AtomicU64 {
        &self.0
    }
}

/// Buckets of a [`Histogram`]; the last one also takes what is longer (from 39 hours on).
pub const BUCKETS: usize = 48;

/// Times by the power of two below them: bucket `i` counts times of `2^i` to `2^(i+1)` ns.
#[derive(Debug)]
#[repr(C)]
pub struct Histogram {
    sum_ns: Counter,
    buckets: [Counter; BUCKETS],
}

impl Histogram {
    pub(super) const fn new() -> Self {
        Histogram { sum_ns: Counter::new(), buckets: [const { Counter::new() }; BUCKETS] }
    }

    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.add(ns);
        self.buckets[(ns.max(1).ilog2() as usize).min(BUCKETS - 1)].add(1);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// Their sum in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }

    /// The counts, bucket by bucket.
    pub fn buckets(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|i| self.buckets[i].get())
    }

    /// The end of the bucket that holds the `percent`-th hundredth, in nanoseconds.
    pub fn quantile_ns(&self, percent: u64) -> u64 {
        let buckets = self.buckets();
        let rank = (buckets.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        for (i, n) in buckets.iter().enumerate() {
            seen += n;
            if seen >= rank && seen > 0 {
                return 2 << i;
            }
        }
        0
    }
}

/// A text of at most `8 * WORDS` bytes that is written once; the first writer wins.
#[derive(Debug)]
#[repr(C)]
pub struct Text<const WORDS: usize> {
    /// 0 empty, 1 being written, else 2 + its length.
    state: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Text<WORDS> {
    pub(super) const fn new() -> Self {
        Text { state: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Writes `text`, cut to what fits, unless something stands there already; true if written.
    pub fn set(&self, text: &str) -> bool {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        let bytes = &text.as_bytes()[..text.floor_char_boundary(8 * WORDS)];
        for (word, piece) in self.words.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..piece.len()].copy_from_slice(piece);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.state.store(2 + bytes.len() as u64, Ordering::Release);
        true
    }

    /// The text, if one was written.
    pub fn get(&self) -> Option<String> {
        let len = self.state.load(Ordering::Acquire).checked_sub(2)? as usize;
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(len);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_text_stays() {
        let text = Text::<2>::new();
        assert_eq!(text.get(), None);
        assert!(text.set("longer than sixteen bytes"));
        assert!(!text.set("second"));
        assert_eq!(text.get().as_deref(), Some("longer than sixt"));
        let text = Text::<1>::new();
        text.set("1234567\u{e9}");
        assert_eq!(text.get().as_deref(), Some("1234567"), "no half characters");
    }

    #[test]
    fn times_fall_into_powers_of_two() {
        let histogram = Histogram::new();
        for ns in [0, 1, 1023, 1024, u64::MAX] {
            histogram.record(Duration::from_nanos(ns));
        }
        let buckets = histogram.buckets();
        assert_eq!((buckets[0], buckets[9], buckets[10], buckets[BUCKETS - 1]), (2, 1, 1, 1));
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.quantile_ns(50), 1024);
        assert_eq!(Histogram::new().quantile_ns(99), 0);
    }
}
