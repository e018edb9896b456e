//! Page codecs. What the engine uses so far is worked on the host as pages come down: zero,
//! constant, raw. The kernels' format, decoder and CPU build are in `reference` and `cpu`; so far
//! `coldpress codec` and the tests use them.
//!
//! Owns: how one page of at most [`PAGE`] bytes is described, and its hash. Never: where bytes
//! are kept (the tier does that) or when (residency does).

pub mod cpu;
mod hash;
pub mod reference;

pub use hash::page_hash;

/// Bytes in a codec page.
pub const PAGE: usize = 64 << 10;

/// How a page is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every byte is zero; nothing is stored.
    Zero,
    /// One 8-byte word over and over; only the word is stored. Pages whose length is no multiple
    /// of 8 are never `Const`.
    Const(u64),
    /// The bytes as they are.
    Raw,
}

/// The description of one encoded page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How it is kept.
    pub mode: Mode,
    /// Bytes in it, 1 to [`PAGE`].
    pub len: u32,
    /// [`page_hash`] of the original bytes.
    pub hash: u32,
}

impl Page {
    /// Describes `bytes` (1 to [`PAGE`] of them).
    pub fn encode(bytes: &[u8]) -> Page {
        debug_assert!(!bytes.is_empty() && bytes.len() <= PAGE);
        Page { mode: detect(bytes), len: bytes.len() as u32, hash: page_hash(bytes) }
    }

    /// Writes the page to `out` (exactly `len` bytes); `stored` are the kept bytes of a raw page.
    /// Says whether the result has the original's hash.
    pub fn decode(&self, stored: Option<&[u8]>, out: &mut [u8]) -> bool {
        if out.len() != self.len as usize {
            return false;
        }
        match (self.mode, stored) {
            (Mode::Zero, _) => out.fill(0),
            (Mode::Const(word), _) => {
                for chunk in out.chunks_mut(8) {
                    chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
                }
            }
            (Mode::Raw, Some(bytes)) if bytes.len() == out.len() => out.copy_from_slice(bytes),
            (Mode::Raw, _) => return false,
        }
        page_hash(out) == self.hash
    }

    /// Bytes that must be stored for it.
    pub fn stored_len(&self) -> usize {
        if self.mode == Mode::Raw { self.len as usize } else { 0 }
    }
}

fn detect(bytes: &[u8]) -> Mode {
    let (words, tail) = bytes.as_chunks::<8>();
    let Some(first) = words.first() else {
        return if tail.iter().all(|&b| b == 0) { Mode::Zero } else { Mode::Raw };
    };
    let word = u64::from_le_bytes(*first);
    // Blocks of 64 words keep the early exit cheap and let the comparison vectorise.
    for chunk in words.chunks(64) {
        if chunk.iter().fold(0, |acc, w| acc | (u64::from_le_bytes(*w) ^ word)) != 0 {
            return Mode::Raw;
        }
    }
    if word == 0 && tail.iter().all(|&b| b == 0) {
        Mode::Zero
    } else if tail.is_empty() {
        Mode::Const(word)
    } else {
        Mode::Raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> Mode {
        let page = Page::encode(bytes);
        let mut out = vec![0xEE; bytes.len()];
        let stored = (page.mode == Mode::Raw).then_some(bytes);
        assert!(page.decode(stored, &mut out));
        assert_eq!(out, bytes);
        page.mode
    }

    #[test]
    fn modes() {
        assert_eq!(round_trip(&[0; PAGE]), Mode::Zero);
        assert_eq!(round_trip(&[0; 3]), Mode::Zero);
        assert_eq!(round_trip(&[7; PAGE]), Mode::Const(0x0707_0707_0707_0707));
        assert_eq!(round_trip(&[7; 11]), Mode::Raw, "an odd tail is kept as it is");
        let mut late = vec![0; PAGE];
        late[PAGE - 1] = 1;
        assert_eq!(round_trip(&late), Mode::Raw);
    }

    #[test]
    fn a_flipped_byte_is_seen() {
        let mut bytes: Vec<u8> = (0..PAGE).map(|i| ((i * 31) >> 3) as u8).collect();
        let page = Page::encode(&bytes);
        bytes[12345] ^= 0x10;
        assert!(!page.decode(Some(&bytes), &mut vec![0; PAGE]));
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..4000)) {
            round_trip(&bytes);
        }

        /// A bit of a page's record: its hash, its length, the word of a constant page. Of that
        /// only the low bits: what changes in every word of a page alike can cancel out in the
        /// top bits of the hash.
        #[test]
        fn a_changed_record_is_seen(kind in 0u8..3, field in 0u8..3, bit in 0u32..64) {
            let bytes: Vec<u8> = (0..4096u32).map(|i| match kind {
                0 => 0,
                1 => 7,
                _ => (i ^ i >> 7) as u8,
            }).collect();
            let mut page = Page::encode(&bytes);
            match (field, &mut page.mode) {
                (0, _) => page.hash ^= 1 << (bit % 32),
                (1, _) => page.len ^= 1 << (bit % 32),
                (_, Mode::Const(word)) => *word ^= 1 << (bit % 16),
                (_, mode) => *mode = Mode::Const(1 << (bit % 16)),
            }
            prop_assert!(!page.decode(Some(&bytes), &mut vec![0; bytes.len()]));
        }

        #[test]
        fn any_single_bit_changes_the_hash(len in 1usize..4000, at in any::<usize>(), bit in 0u8..8) {
            let bytes: Vec<u8> = (0..len).map(|i| (i ^ i >> 7) as u8).collect();
            let mut other = bytes.clone();
            other[at % len] ^= 1 << bit;
            prop_assert_ne!(page_hash(&bytes), page_hash(&other));
        }
    }
}
