//! Pages that are as the document says: first some written byte by byte, then many by the writer.
#![forbid(unsafe_code)]

use super::super::PAGE;
use super::writer::Coding::*;
use super::writer::*;
use super::{DESCRIPTOR, decode, page_len};

fn read(descriptor: &[u8; DESCRIPTOR], blob: &[u8]) -> Vec<u8> {
    let mut out = vec![0xEE; page_len(descriptor).unwrap()];
    decode(descriptor, blob, &mut out).unwrap();
    out
}

fn inline(codes: &[u8], constants: &[u8]) -> [u8; 16] {
    let mut inline = [0; 16];
    inline[..codes.len()].copy_from_slice(codes);
    inline[8..8 + constants.len()].copy_from_slice(constants);
    inline
}

/// A page of elements whose fields have symbols that these codings can code, out of any that they
/// can; `zero` says which elements are zero.
pub fn page(len: usize, layout: u8, codings: &[Coding], zero: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut state = len as u64 + u64::from(layout);
    let mut any = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as usize
    };
    let field_bits = if layout & NIBBLES != 0 { 4 } else { 8 };
    let width = 1 << (layout & 3);
    let mut element = || {
        let mut element = 0u64;
        for (field, coding) in codings.iter().enumerate() {
            let symbol = match coding {
                Constant(value) => *value,
                Raw => any() as u8,
                Fixed(_, palette) => palette[any() % palette.len()],
                // Never 0 or 1: with a bitmap and rotated back that could leave a zero.
                Tiers(_, first, _, second) => match any() % 8 {
                    0 => (any() as u8 | 2) & (0xFF >> (8 - field_bits)),
                    1 | 2 => second[any() % second.len()],
                    _ => first[any() % first.len()],
                },
            };
            element |= u64::from(symbol) << (field * field_bits);
        }
        element
    };
    let mut out = Vec::new();
    let indices: Vec<usize> = (0..len / width).collect();
    for tile in indices.chunks(2048) {
        let mut stored: Vec<u64> =
            tile.iter().filter(|index| !zero(**index)).map(|_| element()).collect();
        if layout & ROTATE != 0 {
            rotate(&mut stored, width, true);
        }
        let mut stored = stored.iter();
        for index in tile {
            let element = if zero(*index) { 0 } else { *stored.next().unwrap() };
            out.extend(&element.to_le_bytes()[..width]);
        }
    }
    out.extend((out.len()..len).map(|at| 0xC0 | at as u8));
    out
}

fn round_trip(len: usize, layout: u8, codings: &[Coding], zero: impl Fn(usize) -> bool) {
    let page = page(len, layout, codings, zero);
    let (descriptor, blob) = fields(&page, layout, codings);
    assert_eq!(page_len(&descriptor), Ok(len));
    assert!(read(&descriptor, &blob) == page, "length {len}, layout {layout:#x}, {codings:?}");
}

#[test]
fn zero_pages() {
    for len in [1, 3, 16, 4097, PAGE] {
        let page = vec![0; len];
        assert_eq!(read(&descriptor(0, 0, &page, &[], [0; 16]), &[]), page);
    }
}

#[test]
fn constant_pages_may_be_cut() {
    let pattern: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    for len in [1, 15, 16, 17, 40, PAGE] {
        let page: Vec<u8> = (0..len).map(|i| pattern[i % 16]).collect();
        assert_eq!(read(&descriptor(1, 0, &page, &[], pattern), &[]), page);
    }
}

#[test]
fn raw_pages_with_any_padding() {
    for len in [1, 16, 17, PAGE - 1, PAGE] {
        let page: Vec<u8> = (0..len).map(|i| ((i * 7) >> 2) as u8).collect();
        let mut blob = page.clone();
        pad(&mut blob, 16);
        assert_eq!(read(&descriptor(2, 0, &page, &blob, [0; 16]), &blob), page);
    }
}

/// 24 elements of 2 bytes and a tail of 1: F(1) below a constant.
#[test]
fn fields_by_hand() {
    let mut page: Vec<u8> = (0..24).flat_map(|e| [if e % 3 == 0 { 7 } else { 9 }, 0x3F]).collect();
    page.push(0x55);
    let blob = [
        [9, 7, 0x55, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0b0100_1001, 0b1001_0010, 0b0010_0100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let descriptor = descriptor(3, 1, &page, &blob, inline(&[0x11, 0], &[0, 0x3F]));
    assert_eq!(read(&descriptor, &blob), page);
}

/// 40 elements of 1 byte as T(1, 1): 36 of the first tier, then two of the second, two of the third.
#[test]
fn tiers_by_hand() {
    let mut page = vec![10; 40];
    page[0] = 20;
    page[8] = 30;
    page[16] = 20;
    page[39] = 40;
    let blob = [
        [10, 20, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0x80, 0, 0, 0, 0b1010, 0, 0, 0, 30, 40, 0, 0],
    ]
    .concat();
    let descriptor = descriptor(3, 0, &page, &blob, inline(&[0x89], &[]));
    assert_eq!(read(&descriptor, &blob), page);
}

/// 40 elements rotated, and with a bitmap that leaves one.
#[test]
fn bitmap_and_rotate_by_hand() {
    let mut page = vec![0; 40];
    page[33] = 0x81;
    let blob = [
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let descriptor = descriptor(3, ROTATE | BITMAP, &page, &blob, inline(&[1], &[]));
    assert_eq!(read(&descriptor, &blob), page);
}

/// Five stored bytes: four are one number that is rotated, the last one is rotated by itself.
#[test]
fn units_of_rotation_by_hand() {
    let mut page = vec![0; 40];
    page[..3].copy_from_slice(&[0x81, 1, 2]);
    page[8..10].copy_from_slice(&[0x80, 0x81]);
    let blob = [
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [7, 3, 0, 0, 0, 0, 0, 0, 3, 3, 4, 0, 3, 0, 0, 0],
    ]
    .concat();
    let descriptor = descriptor(3, ROTATE | BITMAP, &page, &blob, inline(&[1], &[]));
    assert_eq!(read(&descriptor, &blob), page);
}

/// A low nibble of 1 bit under a constant high one.
#[test]
fn nibbles_by_hand() {
    let mut page = vec![0xF2; 40];
    page[2] = 0xF5;
    let blob = [
        [2, 5, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let descriptor = descriptor(3, NIBBLES, &page, &blob, inline(&[0x11, 0], &[0, 0xF]));
    assert_eq!(read(&descriptor, &blob), page);
}

/// One bit at a time: where position and element differ, and that they do in a full tile only.
#[test]
fn order_of_a_full_tile() {
    for (position, element) in [(0, 0), (1, 1), (8, 256), (63, 1799), (64, 8), (2040, 2040)] {
        for (len, element) in [(2048, element), (2047, position)] {
            let mut page = vec![0; len];
            page[element] = 1;
            let mut blob = [0; 16 + 256];
            blob[..8].copy_from_slice(&[0, 1, 0, 0, 1, 0, 0xF, 0]);
            blob[16 + position / 8] = 1 << (position % 8);
            let descriptor = descriptor(3, 0, &page, &blob, inline(&[0x11], &[]));
            assert_eq!(read(&descriptor, &blob), page, "position {position} of {len}");
        }
    }
}

/// 16 elements of 4 bytes, the first above, the others at or below the middle of 0x100.
#[test]
fn ints_by_hand() {
    let page: Vec<u8> =
        (0..16).flat_map(|e| (if e == 0 { 0x101u32 } else { 0xFE }).to_le_bytes()).collect();
    let blob = [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 2, 0, 0, 0xFE, 0, 0, 0, 3, 0, 0, 0],
    ]
    .concat();
    assert_eq!(read(&descriptor(4, 2, &page, &blob, [0; 16]), &blob), page);
}

/// 16 elements of 2 bytes going down by 3 and up by 1 in turn, through zero.
#[test]
fn differences_by_hand() {
    let page: Vec<u8> = (0..16u16)
        .flat_map(|e| 5u16.wrapping_sub(e).wrapping_sub(2 * (e % 2)).to_le_bytes())
        .collect();
    let blob = [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [5, 0, 1, 1, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    let mut blob = blob.concat();
    // Differences are -3 and 1: with the base of -3, values of 0 and 4.
    blob[19] = 3;
    let mut values = Bits::default();
    for e in 0..16u64 {
        values.put(if e == 0 { 7 } else { 4 * (1 - e % 2) }, 3);
    }
    blob[24..30].copy_from_slice(values.bytes());
    assert_eq!(read(&descriptor(4, DELTA | 1, &page, &blob, [0; 16]), &blob), page);
}

fn tiers() -> Coding {
    Tiers(2, vec![3, 5, 2], 3, vec![9, 8, 7, 10, 11, 12, 13])
}

#[test]
fn each_width_with_and_without_rotate_and_bitmap() {
    for width in 0..4u8 {
        let mut codings = vec![tiers(), Raw, Constant(0x3F), Fixed(3, vec![5, 6, 4])];
        codings.extend([
            Fixed(6, (100..164).collect()),
            Constant(0),
            tiers(),
            Fixed(1, vec![2, 3]),
        ]);
        codings.truncate(1 << width);
        for layout in [0, ROTATE, BITMAP, ROTATE | BITMAP] {
            for len in [PAGE, PAGE - 1, 40_001, 4096 + 1031] {
                // Of three pieces of 300 elements one is zero: with a bitmap also inside a block.
                let block = if layout & BITMAP == 0 { 512 } else { 300 };
                round_trip(len, layout | width, &codings, |e| e / block % 3 == 1);
            }
        }
    }
}

#[test]
fn each_code_of_a_byte() {
    for w in 1..=6 {
        round_trip(20_000, 1, &[Constant(1), Fixed(w, (30..30 + (1 << w)).collect())], |_| false);
        for b in 1..=6 {
            let second: Vec<u8> = (99..98 + (1 << b)).collect();
            let coding = Tiers(w, (30..29 + (1 << w)).collect(), b, second);
            round_trip(20_000, 1, &[coding, Constant(1)], |_| false);
        }
    }
}

#[test]
fn raw_bytes_with_missing_blocks() {
    for mask in 1..15u32 {
        round_trip(2048, 0, &[Raw], |e| mask >> (e / 512) & 1 == 0);
        round_trip(PAGE - 100, 0, &[Raw], |e| mask >> (e / 512 % 4) & 1 == 0);
    }
}

#[test]
fn each_code_of_a_nibble() {
    for layout in [0, ROTATE, BITMAP, ROTATE | BITMAP].map(|bits| NIBBLES | bits) {
        for w in 1..=4 {
            let fixed = Fixed(w, (0..1 << w).collect());
            round_trip(9_999, layout, &[fixed.clone(), Constant(9)], |e| e < 1024);
            round_trip(9_999, layout, &[Constant(15), fixed], |e| e < 1024);
        }
        round_trip(9_999, layout, &[tiers(), Constant(1)], |e| e < 1024);
        round_trip(9_999, layout, &[Constant(1), Tiers(6, vec![1, 2], 6, vec![3])], |e| e < 4096);
    }
}

#[test]
fn tiles_without_bytes() {
    for layout in 0..4 {
        let codings = vec![Fixed(1, vec![4, 5]); 1 << layout];
        round_trip(PAGE, layout, &codings, |e| e / 2048 % 2 == 0);
        round_trip(PAGE, layout | BITMAP, &codings, |_| true);
    }
}

#[test]
fn short_tiles_and_tails() {
    for layout in 0..4u8 {
        let width = 1 << layout;
        let mut codings = vec![Constant(7); width];
        codings[width - 1] = Fixed(1, vec![4, 5]);
        for elements in [64, 511, 512, 513, 2047, 2048, 2049, 4095] {
            for tail in 0..width {
                round_trip(elements * width + tail, layout, &codings, |_| false);
            }
        }
    }
}

/// With the bitmap what counts is how many elements are stored.
#[test]
fn order_with_a_bitmap() {
    for missing in [0, 1, 2] {
        round_trip(2048, BITMAP, &[Fixed(4, (1..17).collect())], |e| e < missing);
        round_trip(4096, BITMAP, &[Fixed(4, (1..17).collect())], |e| e < missing);
    }
}

#[test]
fn ints_of_each_width_with_each_offset() {
    for layout in 1..4u8 {
        let width = 1 << layout;
        for k in [0, 1, 2, 4, 8].into_iter().filter(|k| *k <= width) {
            for delta in [0, DELTA] {
                for len in [PAGE, PAGE - 1, 6000 + 13, 2048 * width as usize + 128, 1200] {
                    // Without offsets no difference may be negative, or it would not get smaller.
                    let noise = if k == 0 { 3 } else { 5 };
                    // Climbs through the top of the numbers in a tile, jumps, and stands still.
                    let page: Vec<u8> = (0..len as u64)
                        .flat_map(|e| {
                            let jump = e / 700 * 50_000 + e / 2048 * 0x0123_4567_89AB;
                            let number =
                                (e * 3).wrapping_add(jump).wrapping_sub(e * e % noise + 900);
                            number.to_le_bytes().into_iter().take(width as usize)
                        })
                        .take(len)
                        .collect();
                    let (descriptor, blob) = ints(&page, layout | delta, k);
                    let name = format!("width {width}, k {k}, delta {delta}, length {len}");
                    assert!(read(&descriptor, &blob) == page, "{name}");
                }
            }
        }
    }
}
