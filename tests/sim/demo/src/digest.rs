//! Digests of bytes: one kept over everything read back, and the one the kernels compute.

const ODD: u64 = 0xD6E8_FEB8_6659_FD93;
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A running 64-bit digest; the order of what is added counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub const EMPTY: Digest = Digest(0xCBF2_9CE4_8422_2325);

    /// Adds one number.
    pub fn word(&mut self, word: u64) {
        let x = (self.0 ^ word).wrapping_mul(ODD);
        self.0 = (x ^ x >> 32).wrapping_mul(STEP);
    }

    /// Adds bytes and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.word(u64::from_le_bytes(*w)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    /// The value so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// What `cp_demo_digest` adds up over the whole words of `bytes`.
pub fn kernel_digest(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<4>().0;
    words.iter().zip(1u64..).fold(0, |sum: u64, (word, position)| {
        let word = u64::from(u32::from_le_bytes(*word));
        let mut h = position.wrapping_mul(STEP) ^ word.wrapping_mul(ODD);
        h = (h ^ h >> 32).wrapping_mul(ODD);
        sum.wrapping_add(h ^ h >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_every_byte_count() {
        let of = |parts: &[&[u8]]| {
            let mut digest = Digest::EMPTY;
            parts.iter().for_each(|p| digest.bytes(p));
            digest
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a\0"]), of(&[b"a"]));
        assert_ne!(of(&[b"0123456789"]), of(&[b"0123456798"]));
    }

    #[test]
    fn kernel_digest_sees_swapped_words() {
        assert_ne!(
            kernel_digest(&[1, 0, 0, 0, 2, 0, 0, 0]),
            kernel_digest(&[2, 0, 0, 0, 1, 0, 0, 0])
        );
        assert_eq!(kernel_digest(&[1, 2, 3]), 0);
    }
}
