//! A small encoder for the tests, from the same document as the decoder. It writes what it is
//! told to and does not look for the smallest.
#![forbid(unsafe_code)]

use super::super::page_hash;
use super::DESCRIPTOR;

pub type Written = ([u8; DESCRIPTOR], Vec<u8>);

pub const ROTATE: u8 = 4;
pub const NIBBLES: u8 = 8;
pub const BITMAP: u8 = 16;
pub const DELTA: u8 = 32;

/// How a field is to be coded; palettes are filled up with zeros.
#[derive(Clone, Debug)]
pub enum Coding {
    Constant(u8),
    Raw,
    Fixed(u32, Vec<u8>),
    Tiers(u32, Vec<u8>, u32, Vec<u8>),
}
use Coding::*;

/// Bits one after another, the lowest first.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    pub fn put(&mut self, value: u64, width: u32) {
        for bit in 0..width {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the bits to `out` and pads that.
    fn end(self, out: &mut Vec<u8>) {
        out.extend(self.bytes);
        pad(out, 4);
    }
}

/// Padding is anything but zero, which a decoder must not mind.
pub fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0xA5);
}

pub fn descriptor(
    mode: u8,
    layout: u8,
    page: &[u8],
    blob: &[u8],
    inline: [u8; 16],
) -> [u8; DESCRIPTOR] {
    let mut bytes = [0; DESCRIPTOR];
    bytes[..4].copy_from_slice(&[1, mode, layout, 0]);
    bytes[4..8].copy_from_slice(&page_hash(page).to_le_bytes());
    bytes[8..12].copy_from_slice(&0xDEAD_BEEFu32.to_le_bytes());
    bytes[12..14].copy_from_slice(&((blob.len() / 16) as u16).to_le_bytes());
    bytes[14..16].copy_from_slice(&((page.len() - 1) as u16).to_le_bytes());
    bytes[16..].copy_from_slice(&inline);
    bytes
}

/// Palettes, tail, table and tiles (each with its mask) as a blob.
pub fn blob(palettes: &[u8], tail: &[u8], tiles: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut blob = [palettes, tail].concat();
    pad(&mut blob, 4);
    let mut start = (blob.len() + 4 * tiles.len()).div_ceil(16);
    for (mask, tile) in tiles {
        blob.extend((start as u32 | mask << 16).to_le_bytes());
        start += tile.len() / 16;
    }
    pad(&mut blob, 16);
    for (_, tile) in tiles {
        blob.extend(tile);
    }
    blob
}

/// The page's elements as numbers, and its tail.
fn elements(page: &[u8], width: usize) -> (Vec<u64>, &[u8]) {
    let chunks = page.chunks_exact(width);
    let tail = chunks.remainder();
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    (chunks.map(number).collect(), tail)
}

pub fn fields(page: &[u8], layout: u8, codings: &[Coding]) -> Written {
    let width = 1 << (layout & 3);
    let mut inline = [0; 16];
    let mut palettes = Vec::new();
    for (field, coding) in codings.iter().enumerate() {
        let mut palette = |symbols: &[u8], count: usize| {
            palettes.extend(symbols);
            palettes.extend(vec![0; count - symbols.len()]);
        };
        inline[field] = match coding {
            Constant(value) => {
                inline[8 + field] = *value;
                0
            }
            Raw => 1,
            Fixed(w, symbols) => {
                palette(symbols, 1 << w);
                0x10 + *w as u8
            }
            Tiers(a, first, b, second) => {
                palette(first, (1 << a) - 1);
                palette(second, (1 << b) - 1);
                (0x80 + 8 * a + b) as u8
            }
        };
    }
    let (elements, tail) = elements(page, width);
    let tiles: Vec<_> =
        elements.chunks(2048).map(|tile| fields_tile(tile, layout, width, codings)).collect();
    let blob = blob(&palettes, tail, &tiles);
    (descriptor(3, layout, page, &blob, inline), blob)
}

/// Rotates a tile's stored elements to the left by 1, or back.
pub fn rotate(elements: &mut [u64], width: usize, back: bool) {
    let bits = 8 * width as u32;
    let size = (4 / width).max(1);
    let (units, rest) = elements.split_at_mut(elements.len() / size * size);
    for unit in units.chunks_mut(size).chain(rest.chunks_mut(1)) {
        let all = bits * unit.len() as u32;
        let number = unit.iter().rev().fold(0u128, |n, element| n << bits | u128::from(*element));
        let by = if back { all - 1 } else { 1 };
        let rotated = number << by | number >> (all - by);
        for (index, element) in unit.iter_mut().enumerate() {
            *element = (rotated >> (index as u32 * bits)) as u64 & (u64::MAX >> (64 - bits));
        }
    }
}

fn fields_tile(tile: &[u64], layout: u8, width: usize, codings: &[Coding]) -> (u32, Vec<u8>) {
    let mut out = Vec::new();
    let mut mask = 0;
    let mut stored = Vec::new();
    for (block, elements) in tile.chunks(512).enumerate() {
        if elements.iter().any(|element| *element != 0) {
            mask |= 1 << block;
            stored.extend(elements);
        }
    }
    if layout & BITMAP != 0 {
        let mut bits = Bits::default();
        for element in &stored {
            bits.put(u64::from(*element != 0), 1);
        }
        bits.end(&mut out);
        stored.retain(|element| *element != 0);
    }
    if layout & ROTATE != 0 {
        rotate(&mut stored, width, false);
    }
    let field_bits = if layout & NIBBLES != 0 { 4 } else { 8 };
    let symbol = |element: u64, field: usize| {
        (element >> (field as u32 * field_bits)) as u8 & (0xFF >> (8 - field_bits))
    };
    for (field, coding) in codings.iter().enumerate() {
        if let Raw = coding {
            out.extend(stored.iter().map(|element| symbol(*element, field)));
            pad(&mut out, 4);
        }
    }
    // What is in order of position.
    let mut moved: Vec<(usize, u64)> = stored.iter().copied().enumerate().collect();
    if moved.len() == 2048 {
        moved.sort_by_key(|(e, _)| 64 * (e / 8 % 32) + 8 * (e / 256) + e % 8);
    }
    let find = |palette: &[u8], symbol| palette.iter().position(|entry| *entry == symbol);
    let (mut seconds, mut thirds) = (Vec::new(), Vec::new());
    for (field, coding) in codings.iter().enumerate() {
        let (mut first, mut second, mut third) = (Bits::default(), Bits::default(), Vec::new());
        for (_, element) in &moved {
            let symbol = symbol(*element, field);
            match coding {
                Constant(value) => assert_eq!(symbol, *value),
                Raw => {}
                Fixed(w, palette) => first.put(find(palette, symbol).unwrap() as u64, *w),
                Tiers(a, tier, b, next) => {
                    let code = find(tier, symbol).unwrap_or((1 << a) - 1);
                    first.put(code as u64, *a);
                    if code == (1 << a) - 1 {
                        let code = find(next, symbol).unwrap_or((1 << b) - 1);
                        second.put(code as u64, *b);
                        if code == (1 << b) - 1 {
                            third.push(symbol);
                        }
                    }
                }
            }
        }
        first.end(&mut out);
        second.end(&mut seconds);
        thirds.extend(third);
        pad(&mut thirds, 4);
    }
    out.extend(seconds);
    out.extend(thirds);
    pad(&mut out, 16);
    (mask, out)
}

/// INTS with offsets of `k` bytes. What an offset cannot reach is in the values.
pub fn ints(page: &[u8], layout: u8, k: u32) -> Written {
    let width = 1 << (layout & 3);
    let (elements, tail) = elements(page, width);
    let tiles: Vec<_> = elements
        .chunks(2048)
        .map(|tile| (0, ints_tile(tile, layout & DELTA != 0, width as u32, k)))
        .collect();
    let blob = blob(&[], tail, &tiles);
    (descriptor(4, layout, page, &blob, [0; 16]), blob)
}

fn ints_tile(tile: &[u64], delta: bool, width: u32, k: u32) -> Vec<u8> {
    let bits = 8 * width;
    let all = u64::MAX >> (64 - bits);
    let signed = |number: u64| ((number << (64 - bits)) as i64) >> (64 - bits);
    let first = match (delta, k) {
        (true, _) => tile[0],
        (false, 0) => *tile.iter().min().unwrap(),
        // Not the least, so that some offsets are negative.
        (false, _) => tile[tile.len() / 2],
    };
    let mut before = tile[0];
    let mut offsets: Vec<u8> = Vec::new();
    let mut widths = Vec::new();
    let mut values = Vec::new();
    for group in tile.chunks(128) {
        let relative: Vec<i64> = group
            .iter()
            .map(|element| {
                let from = if delta { std::mem::replace(&mut before, *element) } else { first };
                signed(element.wrapping_sub(from) & all)
            })
            .collect();
        let limit = if k == 0 { 0 } else { i64::MAX >> (64 - 8 * k) };
        let offset =
            (*relative.iter().min().unwrap()).clamp(if k == 0 { 0 } else { !limit }, limit);
        offsets.extend(&offset.to_le_bytes()[..k as usize]);
        let group_values: Vec<u64> =
            relative.iter().map(|number| number.wrapping_sub(offset) as u64 & all).collect();
        let group_width = 64 - group_values.iter().max().unwrap().leading_zeros();
        widths.push(group_width as u8);
        let mut stream = Bits::default();
        for (index, value) in group_values.iter().enumerate() {
            // Nothing is to be made of the first value where there are differences.
            let ignored = delta && widths.len() == 1 && index == 0;
            stream.put(if ignored { !0 } else { *value }, group_width);
        }
        stream.end(&mut values);
    }
    let mut out = first.to_le_bytes()[..width as usize].to_vec();
    out.push(k as u8);
    out.extend(widths);
    pad(&mut out, 4);
    out.extend(offsets);
    pad(&mut out, 4);
    out.extend(values);
    pad(&mut out, 16);
    out
}
