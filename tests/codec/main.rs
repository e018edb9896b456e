//! The codec's kernels against the reference decoder: every byte comes back by either, both builds
//! write the same blobs, old blobs still decode, and broken ones are an error and nothing worse.

mod data;
mod device;
#[path = "../support/full.rs"]
mod full;
mod sanitized;

use coldpress::codec::PAGE;
use coldpress::codec::cpu::{Coder, Dtype};
use coldpress::codec::reference::{self, DESCRIPTOR};
use data::{Shape, page};
use proptest::prelude::*;
use std::cell::RefCell;
use std::fs;
use std::path::Path;

thread_local! {
    static CODERS: RefCell<[Coder; 3]> =
        RefCell::new([Coder::new(), Coder::portable(), Coder::as_device()]);
}

const DTYPES: [Dtype; 9] = [
    Dtype::Auto,
    Dtype::Float(1),
    Dtype::Float(2),
    Dtype::Float(4),
    Dtype::Float(8),
    Dtype::Int(1),
    Dtype::Int(2),
    Dtype::Int(4),
    Dtype::Int(8),
];

/// Codes and decodes in all ways; descriptor and blob.
#[track_caller]
fn round_trip(bytes: &[u8], dtype: Dtype) -> ([u8; DESCRIPTOR], Vec<u8>) {
    CODERS.with_borrow_mut(|coders| {
        let mut made = coders.iter_mut().map(|coder| {
            let (descriptor, blob) = coder.encode(bytes, dtype.hint());
            (descriptor, blob.to_vec())
        });
        let (descriptor, blob) = made.next().expect("the first");
        for other in made {
            assert_eq!(
                other,
                (descriptor, blob.clone()),
                "two builds write different blobs: {dtype:?}"
            );
        }
        assert!(blob.len() <= bytes.len().next_multiple_of(16), "{dtype:?} grew to {}", blob.len());
        let mut out = vec![0xEE; bytes.len()];
        for coder in coders {
            out.fill(0xEE);
            assert_eq!(coder.decode(&descriptor, &blob, &mut out), Ok(()), "{dtype:?}");
            assert!(out == bytes, "{dtype:?}: other bytes came back");
        }
        out.fill(0xEE);
        assert_eq!(reference::decode(&descriptor, &blob, &mut out), Ok(()), "{dtype:?}");
        assert!(out == bytes, "{dtype:?}: the reference decoder reads other bytes");
        (descriptor, blob)
    })
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        1usize..40,
        1usize..5000,
        Just(PAGE),
        PAGE - 9..=PAGE,
        1usize..=PAGE,
        (1usize..32).prop_map(|tiles| tiles * 2048),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(full::pick(1500, 150_000)))]

    #[test]
    fn every_byte_comes_back(
        len in lengths(),
        shape in Shape::any(),
        dtype in proptest::sample::select(&DTYPES[..]),
        seed in any::<u64>(),
    ) {
        round_trip(&page(shape, seed, len), dtype);
    }

    /// Either decoder takes a broken page for good only if its bytes have the hash, and neither
    /// crashes; the two agree on which pages are good.
    #[test]
    fn broken_pages_are_an_error(
        len in lengths(),
        shape in Shape::any(),
        dtype in proptest::sample::select(&DTYPES[..]),
        seed in any::<u64>(),
        flips in proptest::collection::vec((any::<u32>(), 0u8..8, any::<bool>()), 1..6),
    ) {
        let bytes = page(shape, seed, len);
        let (mut descriptor, mut blob) = round_trip(&bytes, dtype);
        for (at, bit, in_descriptor) in flips {
            let of = if in_descriptor || blob.is_empty() { &mut descriptor[..] } else { &mut blob[..] };
            let at = at as usize % of.len();
            of[at] ^= 1 << bit;
        }
        agree(&descriptor, &blob);
    }
}

/// The decoders agree on a page that may be broken.
#[track_caller]
fn agree(descriptor: &[u8; DESCRIPTOR], blob: &[u8]) {
    let len = usize::from(u16::from_le_bytes([descriptor[14], descriptor[15]])) + 1;
    let mut by_reference = vec![0xEE; len];
    let good = reference::decode(descriptor, blob, &mut by_reference).is_ok();
    CODERS.with_borrow_mut(|coders| {
        for coder in coders {
            let mut out = vec![0xEE; len];
            let verdict = coder.decode(descriptor, blob, &mut out);
            assert_eq!(verdict.is_ok(), good, "{verdict:?}");
            assert!(!good || out == by_reference);
        }
    });
}

/// Small pages with everything a format has in them, each bit changed in turn.
#[test]
fn every_single_bit_of_small_pages() {
    for (shape, dtype, len) in [
        (Shape::Floats { width: 1, spread: 7 }, Dtype::Float(1), 1500),
        (Shape::Floats { width: 2, spread: 30 }, Dtype::Float(2), 1001),
        (Shape::Sparse { width: 4, spread: 9 }, Dtype::Float(4), 3001),
        (Shape::Growing { width: 8, step: 300 }, Dtype::Int(8), 3003),
        (Shape::Near { width: 4, below: 1 << 20 }, Dtype::Int(4), 1003),
        (Shape::Mask, Dtype::Int(1), 900),
    ] {
        let (descriptor, blob) = round_trip(&page(shape, 3, len), dtype);
        assert!(descriptor[1] >= 3, "{shape:?} is not coded");
        for bit in 0..DESCRIPTOR * 8 {
            let mut descriptor = descriptor;
            descriptor[bit / 8] ^= 1 << (bit % 8);
            agree(&descriptor, &blob);
        }
        for bit in 0..blob.len() * 8 {
            let mut blob = blob.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            agree(&descriptor, &blob);
        }
    }
}

#[test]
fn every_size_up_to_several_tiles() {
    for len in
        (1..300).chain((1..33).flat_map(|k| [k * 2048 - 1, k * 2048, (k * 2048 + 1).min(PAGE)]))
    {
        let bytes = page(Shape::Floats { width: 2, spread: 3 }, len as u64, len);
        round_trip(&bytes, DTYPES[len % DTYPES.len()]);
    }
}

#[test]
fn patterns_made_to_hurt() {
    let u16s = |f: &dyn Fn(u32) -> u16| -> Vec<u8> {
        (0..PAGE as u32 / 2).flat_map(|i| f(i).to_le_bytes()).collect()
    };
    let pages = [
        // Each bit pattern of 16 bits once: NaNs, infinities, denormals, both zeros.
        u16s(&|i| i as u16),
        u16s(&|i| (i as u16).reverse_bits()),
        // One exception, at the ends of tiles.
        u16s(&|i| if i % 2048 == 2047 { 0x7FC0 } else { 0x3F80 }),
        u16s(&|i| if i == 5 { 1 } else { 0 }),
        // As many exponents as palettes hold, one more, and all as common as each other.
        u16s(&|i| ((i % 126) << 7) as u16),
        u16s(&|i| ((i % 127) << 7) as u16),
        u16s(&|i| ((i % 256) << 7 | i & 0x7F) as u16),
        // Nothing but exceptions after a first tile that promises something else.
        u16s(&|i| if i < 2048 { 0x3F80 } else { (i.wrapping_mul(0x9E37_79B1) >> 16) as u16 }),
        // Negative zeros, and NaNs that only differ in their payload.
        u16s(&|i| if i % 3 == 0 { 0x8000 } else { 0 }),
        u16s(&|i| 0x7F80 | (i & 0x7F) as u16),
        // Blocks that are zero beside ones that are not.
        u16s(&|i| if i / 512 % 2 == 0 { 0 } else { 0x4000 | (i & 0xFF) as u16 }),
    ];
    for bytes in &pages {
        for dtype in DTYPES {
            round_trip(bytes, dtype);
        }
    }
}

#[test]
fn what_does_not_compress_stays_as_it_is() {
    let bytes = page(Shape::Random, 7, PAGE);
    for dtype in DTYPES {
        let (descriptor, blob) = round_trip(&bytes, dtype);
        assert_eq!((descriptor[1], blob.len()), (2, PAGE), "{dtype:?}");
    }
    assert_eq!(round_trip(&[0; PAGE], Dtype::Auto).1.len(), 0);
    assert_eq!(round_trip(&[7; 100], Dtype::Auto).1.len(), 0);
}

/// Blobs of this version of the format, from the day it was made. A file is a descriptor and a blob.
#[test]
fn golden_blobs_still_decode() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec/golden");
    let write = std::env::var_os("TEST_COLDPRESS_GOLDEN").is_some();
    let mut modes = std::collections::BTreeSet::new();
    for (name, shape, len, dtype) in data::GOLDEN {
        let bytes = page(*shape, 1, *len);
        let file = folder.join(format!("v1-{name}.bin"));
        if write {
            let (descriptor, blob) = round_trip(&bytes, *dtype);
            fs::write(&file, [&descriptor[..], &blob].concat()).expect("the golden folder");
        }
        let golden = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (descriptor, blob) = golden.split_first_chunk().expect("a descriptor");
        modes.insert(descriptor[1]);
        let mut out = vec![0; *len];
        assert_eq!(reference::decode(descriptor, blob, &mut out), Ok(()), "{name}");
        assert!(out == bytes, "{name}");
        CODERS.with_borrow_mut(|coders| {
            for coder in coders {
                out.fill(0xEE);
                assert_eq!(coder.decode(descriptor, blob, &mut out), Ok(()), "{name}");
                assert!(out == bytes, "{name}");
            }
        });
    }
    assert_eq!(modes.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4], "each mode has a blob");
}
