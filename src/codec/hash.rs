//! The page hash: 32 lanes of a 32-bit Horner sum, folded by a second multiplier.
//!
//! The same value can be computed by a warp (lane i takes words i, i + 32, ..) and on the host,
//! where the 32 independent lanes vectorise. Not cryptographic: it misses a random corruption
//! with probability about 2^-32, and never a change of a single word (odd multipliers are
//! invertible modulo 2^32).
#![forbid(unsafe_code)]

const LANES: usize = 32;
/// Odd, from the fractional part of the golden ratio.
const STEP: u32 = 0x9E37_79B1;
/// Odd, from the fractional part of the square root of 2.
const FOLD: u32 = 0x6A09_E667;

/// Hash of `bytes` read as little-endian 32-bit words; the last word is filled up with zeros and
/// the length is part of the value.
pub fn page_hash(bytes: &[u8]) -> u32 {
    let mut lanes = [0u32; LANES];
    let (rows, rest) = bytes.as_chunks::<{ LANES * 4 }>();
    for row in rows {
        let (words, _) = row.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_mul(STEP).wrapping_add(u32::from_le_bytes(*word));
        }
    }
    for (lane, chunk) in lanes.iter_mut().zip(rest.chunks(4)) {
        let mut word = [0u8; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        *lane = lane.wrapping_mul(STEP).wrapping_add(u32::from_le_bytes(word));
    }
    lanes.iter().fold(bytes.len() as u32, |hash, &lane| hash.wrapping_mul(FOLD).wrapping_add(lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word, without the row structure.
    fn slow(bytes: &[u8]) -> u32 {
        let mut lanes = [0u32; LANES];
        for (i, chunk) in bytes.chunks(4).enumerate() {
            let mut word = [0u8; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let lane = &mut lanes[i % LANES];
            *lane = lane.wrapping_mul(STEP).wrapping_add(u32::from_le_bytes(word));
        }
        lanes.iter().fold(bytes.len() as u32, |h, &l| h.wrapping_mul(FOLD).wrapping_add(l))
    }

    #[test]
    fn agrees_with_the_definition() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 2) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(page_hash(&bytes[..len]), slow(&bytes[..len]), "length {len}");
        }
    }

    #[test]
    fn the_value_is_fixed() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(page_hash(&bytes), slow(&bytes));
        assert_ne!(page_hash(&[0; 4]), page_hash(&[0; 8]), "length counts");
    }
}
