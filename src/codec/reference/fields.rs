//! Tiles of the mode FIELDS: elements split into fields, each with a coding of its own.
#![forbid(unsafe_code)]

use super::bits::{Bytes, write};
use super::descriptor::{Code, Layout};
use super::tiles::Tile;
use super::{TILE, Wrong};

/// Elements in a block.
const BLOCK: usize = 512;

/// A field's coding with its palettes.
pub enum Field<'a> {
    Constant(u8),
    Raw,
    /// One tier for F, two for T.
    Coded(Vec<Tier<'a>>),
}

/// Codes of `width` bits, each the index of a symbol in the palette. A palette that is one short
/// has no symbol for the highest code: that one is in the next stream.
pub struct Tier<'a> {
    width: u32,
    palette: &'a [u8],
}

/// Reads the palettes of all fields, which come first in the blob.
pub fn palettes<'a>(
    codes: &[Code],
    layout: &Layout,
    head: &mut Bytes<'a>,
) -> Result<Vec<Field<'a>>, Wrong> {
    let mut tier = |width: u32, symbols: usize| {
        let palette = head.take(symbols).ok_or(Wrong::Head)?;
        if layout.holds(palette) { Ok(Tier { width, palette }) } else { Err(Wrong::Value) }
    };
    codes
        .iter()
        .map(|code| match *code {
            Code::Constant(value) => Ok(Field::Constant(value)),
            Code::Raw => Ok(Field::Raw),
            Code::Fixed(width) => Ok(Field::Coded(vec![tier(width, 1 << width)?])),
            Code::Tiers(first, second) => Ok(Field::Coded(vec![
                tier(first, (1 << first) - 1)?,
                tier(second, (1 << second) - 1)?,
            ])),
        })
        .collect()
}

/// Decodes one tile into its place in the page.
pub fn tile(
    layout: &Layout,
    fields: &[Field<'_>],
    tile: &Tile<'_>,
    out: &mut [u8],
) -> Result<(), Wrong> {
    out.fill(0);
    let count = out.len() / layout.width;
    if tile.mask >> count.div_ceil(BLOCK) != 0 {
        return Err(Wrong::Mask);
    }
    let mut streams = Bytes::new(tile.bytes);
    let mut stored: Vec<usize> =
        (0..count).filter(|element| tile.mask >> (element / BLOCK) & 1 == 1).collect();
    if layout.bitmap {
        let bits = streams.stream(stored.len(), 1).ok_or(Wrong::Streams)?;
        let mut set = Vec::new();
        for (index, element) in stored.iter().enumerate() {
            if bits.number(index).ok_or(Wrong::Streams)? == 1 {
                set.push(*element);
            }
        }
        stored = set;
    }

    let mut numbers = vec![0; stored.len()];
    for (field, symbols) in symbols(layout, fields, stored.len(), &mut streams)?.iter().enumerate()
    {
        let shift = field as u32 * layout.field_bits();
        for (number, symbol) in numbers.iter_mut().zip(symbols) {
            *number |= u64::from(*symbol) << shift;
        }
    }
    if layout.rotate {
        rotate_back(&mut numbers, layout.width);
    }
    let mut places: Vec<&mut [u8]> = out.chunks_mut(layout.width).collect();
    for (element, number) in stored.iter().zip(numbers) {
        if let Some(place) = places.get_mut(*element) {
            write(number, place);
        }
    }
    Ok(())
}

/// The symbols of each field, in order of element.
fn symbols(
    layout: &Layout,
    fields: &[Field<'_>],
    count: usize,
    streams: &mut Bytes<'_>,
) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut symbols = vec![vec![0; count]; fields.len()];
    for (field, symbols) in fields.iter().zip(&mut symbols) {
        match field {
            Field::Constant(value) => symbols.fill(*value),
            Field::Raw => {
                symbols.copy_from_slice(streams.take(count).ok_or(Wrong::Streams)?);
                streams.align(4);
            }
            Field::Coded(_) => {}
        }
    }

    // The elements whose symbols are still to come, of each field, in order of position.
    let mut missing = vec![elements_by_position(count); fields.len()];
    for round in 0..2 {
        for ((field, symbols), missing) in fields.iter().zip(&mut symbols).zip(&mut missing) {
            let Field::Coded(tiers) = field else { continue };
            if let Some(tier) = tiers.get(round) {
                *missing = one_tier(tier, missing, symbols, streams)?;
            }
        }
    }
    // The third streams. F has none: its palette has a symbol for every code.
    for ((field, symbols), missing) in fields.iter().zip(&mut symbols).zip(&missing) {
        let Field::Coded(_) = field else { continue };
        let values = streams.take(missing.len()).ok_or(Wrong::Streams)?;
        streams.align(4);
        if !layout.holds(values) {
            return Err(Wrong::Value);
        }
        for (element, value) in missing.iter().zip(values) {
            set(symbols, *element, *value);
        }
    }
    Ok(symbols)
}

/// Reads a stream of codes for the elements that miss a symbol; gives those that still do.
fn one_tier(
    tier: &Tier<'_>,
    missing: &[usize],
    symbols: &mut [u8],
    streams: &mut Bytes<'_>,
) -> Result<Vec<usize>, Wrong> {
    let codes = streams.stream(missing.len(), tier.width).ok_or(Wrong::Streams)?;
    let mut still = Vec::new();
    for (index, element) in missing.iter().enumerate() {
        let code = codes.number(index).ok_or(Wrong::Streams)?;
        match tier.palette.get(code as usize) {
            Some(symbol) => set(symbols, *element, *symbol),
            None => still.push(*element),
        }
    }
    Ok(still)
}

fn set(symbols: &mut [u8], element: usize, value: u8) {
    if let Some(symbol) = symbols.get_mut(element) {
        *symbol = value;
    }
}

/// The element at each position, for so many stored elements: a full tile has eight elements of
/// each of a warp's 32 lanes, eight times, and gives each lane its own in one piece.
fn elements_by_position(count: usize) -> Vec<usize> {
    let element = |position: usize| {
        let (lane, group, inside) = (position / 64, position / 8 % 8, position % 8);
        8 * (32 * group + lane) + inside
    };
    if count == TILE { (0..count).map(element).collect() } else { (0..count).collect() }
}

/// Undoes the rotation to the left by 1 of a tile's stored elements of `width` bytes: by units of
/// 32 bits or of one element of 64, and element by element in what fills no unit.
fn rotate_back(numbers: &mut [u64], width: usize) {
    let unit = (4 / width).max(1);
    for numbers in numbers.chunks_mut(unit) {
        if numbers.len() == unit {
            rotate_unit_back(numbers, width);
        } else {
            numbers.chunks_mut(1).for_each(|number| rotate_unit_back(number, width));
        }
    }
}

/// Each element's highest bit is the lowest one of the element after it, the last one's that of
/// the first.
fn rotate_unit_back(numbers: &mut [u64], width: usize) {
    let highest = 8 * width as u32 - 1;
    let lowest: Vec<u64> = numbers.iter().map(|number| number & 1).collect();
    for (number, above) in numbers.iter_mut().zip(lowest.iter().cycle().skip(1)) {
        *number = *number >> 1 | above << highest;
    }
}
