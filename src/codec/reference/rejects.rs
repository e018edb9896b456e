//! What must be rejected, one thing at a time.
#![forbid(unsafe_code)]

use super::tests::page;
use super::writer::Coding::*;
use super::writer::*;
use super::{DESCRIPTOR, Wrong, decode, page_len};

pub fn result(descriptor: &[u8; DESCRIPTOR], blob: &[u8]) -> Result<(), Wrong> {
    let mut out = vec![0; page_len(descriptor)?];
    decode(descriptor, blob, &mut out)
}

/// Changes a good page, here and there by a byte, and expects it to be rejected.
fn rejects(good: &Written, descriptor: &[(usize, u8)], blob: &[(usize, u8)], wrong: Wrong) {
    assert_eq!(result(&good.0, &good.1), Ok(()));
    let mut bad = good.clone();
    descriptor.iter().for_each(|(at, byte)| bad.0[*at] = *byte);
    blob.iter().for_each(|(at, byte)| bad.1[*at] = *byte);
    assert_eq!(result(&bad.0, &bad.1), Err(wrong), "{descriptor:?} {blob:?}");
}

fn zero() -> Written {
    (descriptor(0, 0, &[0; 40], &[], [0; 16]), Vec::new())
}

fn constant() -> Written {
    (descriptor(1, 0, &[5; 40], &[], [5; 16]), Vec::new())
}

fn raw() -> Written {
    let blob = vec![6; 48];
    (descriptor(2, 0, &blob[..40], &blob, [0; 16]), blob)
}

/// Two tiles of 2 bytes an element, the second one of two blocks. The palettes have 12 bytes, the
/// table is at 12, the tiles at 32.
pub fn two_tiles() -> Written {
    let codings = [Tiers(2, vec![1, 2, 3], 1, vec![9]), Fixed(3, vec![5, 6, 7])];
    fields(&page(2 * (2048 + 1000), 1, &codings, |_| false), 1, &codings)
}

/// The palettes have 5 bytes, the table is at 8, the tile at 16.
pub fn nibbles() -> Written {
    let codings = [Tiers(2, vec![1, 2, 3], 1, vec![9]), Constant(1)];
    fields(&page(400, NIBBLES, &codings, |_| false), NIBBLES, &codings)
}

/// 8 bytes an element; two tiles, at 16 and further on. The first has 16 groups.
pub fn numbers() -> Written {
    let page: Vec<u8> = (0..2100u64).flat_map(|e| (e * e % 1000).to_le_bytes()).collect();
    ints(&page, 3, 2)
}

#[test]
fn version() {
    for version in [0, 2, 255] {
        rejects(&zero(), &[(0, version)], &[], Wrong::Version);
        rejects(&two_tiles(), &[(0, version)], &[], Wrong::Version);
    }
}

#[test]
fn mode() {
    for mode in [5, 0x83, 255] {
        rejects(&two_tiles(), &[(1, mode)], &[], Wrong::Mode);
    }
}

#[test]
fn layout_bits() {
    for good in [zero(), constant(), raw()] {
        rejects(&good, &[(2, 1)], &[], Wrong::Layout);
    }
    // Of FIELDS: delta, bits that do not exist, nibbles of more than a byte.
    for layout in [0x21, 0x41, 0x81, 0x09] {
        rejects(&two_tiles(), &[(2, layout)], &[], Wrong::Layout);
    }
    // Of INTS: elements of 1 byte, what FIELDS alone has, bits that do not exist.
    for layout in [0, 0x07, 0x0B, 0x13, 0x43, 0x83] {
        rejects(&numbers(), &[(2, layout)], &[], Wrong::Layout);
    }
}

#[test]
fn bytes_that_must_be_zero() {
    for good in [zero(), constant(), raw(), two_tiles(), numbers()] {
        rejects(&good, &[(3, 1)], &[], Wrong::Reserved);
    }
    for good in [zero(), raw(), numbers()] {
        for at in 16..DESCRIPTOR {
            rejects(&good, &[(at, 1)], &[], Wrong::Reserved);
        }
    }
    // Fields that the layout does not have, and values of fields that are not constant.
    for at in 18..DESCRIPTOR {
        rejects(&two_tiles(), &[(at, 1)], &[], Wrong::Reserved);
    }
}

#[test]
fn codes() {
    for code in [2, 0x10, 0x17, 0x1F, 0x80, 0x81, 0x88, 0x8F, 0xB7, 0xB8, 0xB9, 0xC9, 0xFF] {
        rejects(&two_tiles(), &[(16, code)], &[], Wrong::Code);
    }
    for code in [1, 0x15, 0x16] {
        rejects(&nibbles(), &[(16, code)], &[], Wrong::Code);
    }
}

#[test]
fn size_that_does_not_fit_the_mode() {
    rejects(&zero(), &[(12, 1)], &[], Wrong::Size);
    rejects(&constant(), &[(12, 1)], &[], Wrong::Size);
    rejects(&raw(), &[(12, 2)], &[], Wrong::Size);
    rejects(&raw(), &[(12, 4)], &[], Wrong::Size);
    rejects(&nibbles(), &[(12, 26)], &[], Wrong::Size);
    rejects(&numbers(), &[(13, 5)], &[], Wrong::Size);
}

#[test]
fn pages_of_less_than_an_element() {
    rejects(&two_tiles(), &[(14, 0), (15, 0)], &[], Wrong::NoElement);
    rejects(&numbers(), &[(14, 6), (15, 0)], &[], Wrong::NoElement);
}

#[test]
fn lengths_of_the_buffers() {
    for (descriptor, mut blob) in [zero(), constant(), raw(), two_tiles(), numbers()] {
        let len = page_len(&descriptor).unwrap();
        for len in [0, len - 1, len + 1] {
            assert_eq!(decode(&descriptor, &blob, &mut vec![0; len]), Err(Wrong::PageLength));
        }
        blob.push(0);
        assert_eq!(result(&descriptor, &blob), Err(Wrong::BlobLength));
        blob.truncate(blob.len().saturating_sub(2));
        if !blob.is_empty() {
            assert_eq!(result(&descriptor, &blob), Err(Wrong::BlobLength));
        }
    }
}

#[test]
fn palettes_tail_and_table_outside_the_blob() {
    for (good, size) in [(two_tiles(), 0), (two_tiles(), 1), (numbers(), 0)] {
        let mut bad = good.clone();
        bad.0[12..14].copy_from_slice(&[size, 0]);
        bad.1.truncate(16 * usize::from(size));
        assert_eq!(result(&bad.0, &bad.1), Err(Wrong::Head));
    }
}

#[test]
fn bits_of_the_table_that_must_be_zero() {
    let good = two_tiles();
    for entry in [12, 16] {
        for bit in [14, 15, 20, 21, 23, 24, 31] {
            let at = entry + bit / 8;
            rejects(&good, &[], &[(at, good.1[at] | 1 << (bit % 8))], Wrong::Table);
        }
    }
}

#[test]
fn starts_of_tiles() {
    let good = two_tiles();
    let end = good.1.len() / 16;
    for start in [0, 1, 3, end, end + 1, 0x3FFF] {
        let bytes = (start as u16).to_le_bytes();
        rejects(&good, &[], &[(12, bytes[0]), (13, bytes[1])], Wrong::Start);
    }
    for start in [0, 1, end + 1, 0x3FFF] {
        let bytes = (start as u16).to_le_bytes();
        rejects(&good, &[], &[(16, bytes[0]), (17, bytes[1])], Wrong::Start);
    }
}

#[test]
fn masks() {
    for mask in [4, 7, 8, 15] {
        rejects(&two_tiles(), &[], &[(18, mask)], Wrong::Mask);
    }
    rejects(&numbers(), &[], &[(2, 1)], Wrong::Mask);
    rejects(&numbers(), &[], &[(6, 8)], Wrong::Mask);
}

/// A tile ends where the next one starts, so moving that cuts it; the last is cut by the size.
#[test]
fn streams_that_do_not_end_inside_the_tile() {
    let numbers = numbers();
    for (good, entry, first) in [(two_tiles(), 16, 2), (numbers, 4, 1)] {
        let next = u16::from_le_bytes([good.1[entry], good.1[entry + 1]]);
        for start in first..next {
            let bytes = start.to_le_bytes();
            rejects(&good, &[], &[(entry, bytes[0]), (entry + 1, bytes[1])], Wrong::Streams);
        }
        for size in usize::from(next)..good.1.len() / 16 {
            let mut bad = good.clone();
            bad.0[12..14].copy_from_slice(&(size as u16).to_le_bytes());
            bad.1.truncate(16 * size);
            assert_eq!(result(&bad.0, &bad.1), Err(Wrong::Streams));
        }
    }
}

/// Raw streams and bitmaps have their own end.
#[test]
fn raw_streams_and_bitmaps_that_do_not_end_inside_the_tile() {
    for layout in [0, BITMAP] {
        let page = page(1024, layout, &[Raw], |e| e < 512);
        let (mut descriptor, mut blob) = fields(&page, layout, &[Raw]);
        while blob.len() > 16 {
            blob.truncate(blob.len() - 16);
            descriptor[12..14].copy_from_slice(&((blob.len() / 16) as u16).to_le_bytes());
            assert_eq!(result(&descriptor, &blob), Err(Wrong::Streams));
        }
    }
}

#[test]
fn values_that_do_not_fit_a_nibble() {
    for at in 0..4 {
        rejects(&nibbles(), &[], &[(at, 16)], Wrong::Value);
    }
    rejects(&nibbles(), &[(25, 16)], &[], Wrong::Value);
    // 64 elements whose low nibbles are all in the third stream, after palettes and table (16
    // bytes), the bitmap (64) and two streams of 64 bits.
    let page: Vec<u8> = (0..1024).map(|e| if e < 64 { 0x11 + (e % 14) as u8 } else { 0 }).collect();
    let codings = [Tiers(1, vec![0], 1, vec![0]), Constant(1)];
    let good = fields(&page, NIBBLES | BITMAP, &codings);
    for at in [96, 159] {
        rejects(&good, &[], &[(at, 16)], Wrong::Value);
    }
}

#[test]
fn widths() {
    for (at, width) in [(25, 65), (26, 255), (40, 65)] {
        rejects(&numbers(), &[], &[(at, width)], Wrong::Width);
    }
    let page: Vec<u8> = (0..400u16).flat_map(|e| (e % 7).to_le_bytes()).collect();
    rejects(&ints(&page, 1, 0), &[], &[(19, 17)], Wrong::Width);
}

#[test]
fn bytes_of_an_offset() {
    for k in [3, 5, 6, 7, 9, 16, 255] {
        rejects(&numbers(), &[], &[(24, k)], Wrong::Offset);
    }
    let page: Vec<u8> = (0..400u16).flat_map(|e| (e % 7).to_le_bytes()).collect();
    for k in [4, 8] {
        rejects(&ints(&page, 1, 0), &[], &[(18, k)], Wrong::Offset);
    }
}

#[test]
fn hash() {
    for good in [zero(), constant(), raw(), two_tiles(), nibbles(), numbers()] {
        rejects(&good, &[(5, !good.0[5])], &[], Wrong::Hash);
    }
    rejects(&raw(), &[], &[(39, 7)], Wrong::Hash);
    rejects(&constant(), &[(20, 4)], &[], Wrong::Hash);
}

/// What may be anything, or any length, or is not a decoder's business.
#[test]
fn what_is_not_rejected() {
    for (mut descriptor, mut blob) in [two_tiles(), numbers()] {
        descriptor[8..12].fill(0xFF);
        assert_eq!(result(&descriptor, &blob), Ok(()));
        blob.extend([0x77; 32]);
        descriptor[12..14].copy_from_slice(&((blob.len() / 16) as u16).to_le_bytes());
        assert_eq!(result(&descriptor, &blob), Ok(()), "more padding");
    }
}

#[test]
fn reasons_are_sentences() {
    let reason: Box<dyn std::error::Error> = Box::new(Wrong::Hash);
    assert_eq!(reason.to_string(), "the bytes are not the original's");
}
