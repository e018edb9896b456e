//! Nothing at all makes the decoder panic.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::rejects::{nibbles, numbers, result, two_tiles};
use super::writer::{NIBBLES, Written, descriptor};
use super::{DESCRIPTOR, Wrong, decode, page_len};

/// Descriptors and blobs of random bytes, most of which look right at first: layouts and codes
/// that exist, a tile table with starts in order, INTS tiles with sensible widths.
fn plausible() -> impl Strategy<Value = Written> {
    let code = prop_oneof![
        Just(0u8),
        Just(1),
        (1u8..=6).prop_map(|w| 0x10 + w),
        (1u8..=6, 1u8..=6).prop_map(|(a, b)| 0x80 + 8 * a + b),
        any::<u8>(),
    ];
    let lengths = (1usize..=1 << 14, 0usize..=1 << 10);
    let kinds = (0u8..2, any::<u8>(), 0u8..16);
    (kinds, prop::collection::vec(code, 8), lengths, any::<[u8; 8]>()).prop_perturb(
        |((mode, layout, odd), mut codes, (len, units), values), mut rng| {
            // One in 16 has its bits as they fall.
            let layout = match (odd, mode) {
                (0, _) => layout,
                (_, 0) if layout & 3 == 0 => layout & 0x1C,
                (_, 0) => layout & 0x17,
                _ => layout & 0x22 | 1,
            };
            let width = 1usize << (layout & 3);
            let exist = if layout & NIBBLES != 0 { 2 } else { width };
            let mut inline = [0; 16];
            let mut palettes = 0;
            for (field, code) in codes.iter_mut().enumerate().take(exist) {
                if layout & NIBBLES != 0 && matches!(code, 1 | 0x15 | 0x16) {
                    *code = 0;
                }
                palettes += match code {
                    0x11..=0x16 => 1usize << (*code & 7),
                    0x80.. => (1usize << (*code >> 3 & 7)) + (1usize << (*code & 7)) - 2,
                    _ => 0,
                };
                if mode == 0 {
                    inline[field] = *code;
                    if *code == 0 {
                        inline[8 + field] = values[field] & 15;
                    }
                }
            }
            let size = units.min(len.div_ceil(16));
            // Half of the bytes of blobs are small, so that nibbles fit.
            let small = rng.random::<bool>();
            let mut blob: Vec<u8> = (0..size * 16)
                .map(|_| rng.random::<u8>() & if small { 15 } else { 0xFF })
                .collect();
            let tiles = (len / width).div_ceil(2048);
            let table = (if mode == 0 { palettes } else { 0 } + len % width).next_multiple_of(4);
            let begin = (table + 4 * tiles).div_ceil(16);
            let mut starts: Vec<usize> =
                (0..tiles).map(|_| begin + rng.random::<u16>() as usize % (size + 1)).collect();
            starts.sort();
            for (tile, start) in starts.iter().enumerate() {
                let start = if tile == 0 { begin } else { (*start).min(size) };
                let mask = if mode == 0 { rng.random::<u32>() & 3 } else { 0 };
                let entry = (start as u32 | mask << 16).to_le_bytes();
                if let Some(place) = blob.get_mut(table + 4 * tile..table + 4 * tile + 4) {
                    place.copy_from_slice(&entry);
                }
                if let Some(place) = blob.get_mut(16 * start + width..16 * start + width + 17)
                    && mode == 1
                {
                    place.iter_mut().for_each(|byte| *byte %= 9);
                    place[0] = [0, 1, 2, 4, 8][rng.random::<u8>() as usize % 5].min(width as u8);
                }
            }
            let mut descriptor = descriptor(3 + mode, layout, &vec![0; len], &blob, inline);
            if odd == 1 {
                descriptor[rng.random::<u8>() as usize % DESCRIPTOR] = rng.random();
            }
            (descriptor, blob)
        },
    )
}

/// The pages of [`plausible`] get as far as they should for the next test to be worth something.
#[test]
fn plausible_pages_get_deep() {
    let mut runner = TestRunner::deterministic();
    let mut results = Vec::new();
    for _ in 0..2000 {
        let (descriptor, blob) = plausible().new_tree(&mut runner).unwrap().current();
        results.push(result(&descriptor, &blob));
    }
    let share = |wrong| results.iter().filter(|result| **result == Err(wrong)).count();
    // A wrong hash is what is left when everything else is right.
    assert!(share(Wrong::Hash) > 500, "{}", share(Wrong::Hash));
    for wrong in [Wrong::Streams, Wrong::Mask, Wrong::Value] {
        assert!(share(wrong) > 5, "{wrong}: {}", share(wrong));
    }
}

proptest! {
    #[test]
    fn no_page_panics((descriptor, blob) in plausible()) {
        let _ = result(&descriptor, &blob);
    }

    #[test]
    fn no_bytes_panic(
        mut descriptor in any::<[u8; DESCRIPTOR]>(),
        mode in 0u8..5,
        blob in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = result(&descriptor, &blob);
        descriptor[..4].copy_from_slice(&[1, mode, 0, 0]);
        let _ = result(&descriptor, &blob);
        let _ = decode(&descriptor, &blob, &mut vec![0; blob.len()]);
    }

    /// Good pages with a few bytes changed.
    #[test]
    fn no_change_panics(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let (mut descriptor, mut blob) = [two_tiles, nibbles, numbers][which]();
        for (at, byte) in changes {
            // Most of the blob is streams, in which changes do less.
            match at.index(3) {
                0 => descriptor[at.index(DESCRIPTOR)] = byte,
                1 => blob[at.index(64)] = byte,
                _ => *at.get_mut(&mut blob[..]) = byte,
            }
        }
        let len = page_len(&descriptor).unwrap_or(1);
        let _ = decode(&descriptor, &blob, &mut vec![0; len]);
        let size = u16::from_le_bytes([descriptor[12], descriptor[13]]);
        blob.resize(16 * usize::from(size), 0);
        let _ = decode(&descriptor, &blob, &mut vec![0; len]);
    }
}
