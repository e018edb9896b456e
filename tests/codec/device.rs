//! What only a device does: full tiles of 16-bit floats in registers. Run here lane by lane, by the
//! build that takes its paths; blobs and verdicts are the same as everyone's.

use super::{agree, round_trip};
use coldpress::codec::PAGE;
use coldpress::codec::cpu::Dtype;
use std::collections::BTreeSet;

/// A generator of numbers that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (x ^ x >> 27) >> 8
    }
}

/// Floats of 16 bits, sign and mantissa random, exponents as `exponent` says by element.
fn floats(len: usize, seed: u64, exponent: impl Fn(usize, u64) -> u64) -> Vec<u8> {
    let mut noise = Noise(seed);
    let element = |i| {
        let (x, y) = (noise.next(), noise.next());
        ((y & 0x807F) as u16 | ((exponent(i, x) & 255) as u16) << 7).to_le_bytes()
    };
    (0..len / 2).flat_map(element).collect()
}

/// An exponent below 126 that is less likely the smaller it is: of `many` equally likely bits, how
/// many are zero before the first one, times what `per` says.
fn falling(x: u64, many: u32, per: u32) -> u64 {
    u64::from(126 - (x.trailing_zeros().min(many) * per + (x >> 40) as u32 % per))
}

/// Exponents for T(2, b): three common ones, `many` less common, a few of many others.
fn tiers(x: u64, many: u64) -> u64 {
    match x % 64 {
        0 => 30 + (x >> 8) % 40,
        1..38 => 120 + (x >> 8) % 3,
        _ => 90 + (x >> 8) % many,
    }
}

/// Pages whose exponents get all the codes that the paths know, and some more.
fn pages() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (i, len) in [PAGE, PAGE, 16384, 20480, 4096, 8192].into_iter().enumerate() {
        for (many, per) in [(2, 1), (4, 1), (8, 1), (30, 1), (8, 2), (4, 4), (12, 3), (30, 4)] {
            out.push(floats(len, i as u64, |_, x| falling(x, many, per)));
        }
        for many in [3, 7, 15] {
            out.push(floats(len, i as u64, |_, x| tiers(x, many)));
        }
        // As many exponents as F(4) has codes, all as common as each other.
        out.push(floats(len, i as u64, |_, x| 100 + x % 16));
        out.push(floats(len, i as u64, |at, x| if at == len / 2 - 1 { 90 } else { 100 + x % 16 }));
    }
    // One tile unlike all others: only second codes, only symbols of the third tier, zero.
    for tile in [0, 3, 15] {
        let odd = |f: fn(u64) -> u64| {
            let here = move |at: usize| at as u64 / 2048 == tile;
            floats(PAGE, tile, move |at, x| if here(at) { f(x) } else { falling(x, 30, 1) })
        };
        out.extend([odd(|_| 123), odd(|x| 30 + x % 2), odd(|x| 60 + x % 40)]);
        let mut page = odd(|_| 124);
        page[tile as usize * 4096 + 1024..][..1024].fill(0);
        out.push(page);
    }
    // A tile with just so many second codes that they fill, or do not fill, the room for them.
    for count in 1016..1026 {
        out.push(floats(PAGE, 5, |at, x| if at % 2048 < count { 110 } else { 120 + x % 3 }));
    }
    // Lengths of the second stream, modulo everything.
    for count in (0..40).chain(250..262) {
        let rare = |at| at % 2048 < count;
        out.push(floats(16384, 6, |at, x| if rare(at) { 110 + x % 5 } else { 120 + x % 3 }));
    }
    out
}

#[test]
fn all_codes_of_the_fast_paths() {
    let mut codes = BTreeSet::new();
    for page in pages() {
        let (descriptor, _) = round_trip(&page, Dtype::Float(2));
        if descriptor[1..3] == [3, 5] && descriptor[16] == 1 {
            codes.insert(descriptor[17]);
        }
    }
    for code in [0x14, 0x92, 0x93, 0x94] {
        assert!(codes.contains(&code), "no page has code {code:#x}: {codes:x?}");
    }
}

/// Each bit of the descriptor, of what stands before the tiles, and of much of the tiles; and ends
/// that come early.
#[test]
fn broken_pages_of_the_fast_paths() {
    for (many, code) in [(3, 0x92), (7, 0x93), (15, 0x94), (0, 0x14)] {
        let exponent = |x: u64| if many == 0 { 100 + x % 16 } else { tiers(x, many) };
        let page = floats(16384, 1, |_, x| exponent(x));
        let (descriptor, blob) = round_trip(&page, Dtype::Float(2));
        assert_eq!(descriptor[17], code);
        for bit in 0..descriptor.len() * 8 {
            let mut descriptor = descriptor;
            descriptor[bit / 8] ^= 1 << (bit % 8);
            agree(&descriptor, &blob);
        }
        // Raw bytes do not decide anything.
        let last = blob.len() - 1500..blob.len();
        for at in (0..64).chain(64 + 2048..64 + 2048 + 700).chain(last) {
            for bit in 0..8 {
                let mut blob = blob.clone();
                blob[at] ^= 1 << bit;
                agree(&descriptor, &blob);
            }
        }
        // A blob that ends early, with a size that says so.
        for cut in 1..200 {
            let mut descriptor = descriptor;
            let blob = &blob[..blob.len() - 16 * cut];
            descriptor[12..14].copy_from_slice(&((blob.len() / 16) as u16).to_le_bytes());
            agree(&descriptor, blob);
        }
    }
}
