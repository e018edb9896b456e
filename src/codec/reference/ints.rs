//! Tiles of the mode INTS: a base for each group of elements, and small numbers above it.
#![forbid(unsafe_code)]

use super::Wrong;
use super::bits::{Bytes, signed, unsigned, write};
use super::descriptor::Layout;
use super::tiles::Tile;

/// Elements in a group; the last one of a tile may have fewer.
const GROUP: usize = 128;

/// Decodes one tile into its place in the page.
pub fn tile(layout: &Layout, tile: &Tile<'_>, out: &mut [u8]) -> Result<(), Wrong> {
    if tile.mask != 0 {
        return Err(Wrong::Mask);
    }
    let groups = (out.len() / layout.width).div_ceil(GROUP);
    let mut streams = Bytes::new(tile.bytes);
    let first = unsigned(streams.take(layout.width).ok_or(Wrong::Streams)?);
    let offset_bytes = unsigned(streams.take(1).ok_or(Wrong::Streams)?) as usize;
    if !matches!(offset_bytes, 0 | 1 | 2 | 4 | 8) || offset_bytes > layout.width {
        return Err(Wrong::Offset);
    }
    let widths = streams.take(groups).ok_or(Wrong::Streams)?;
    if widths.iter().any(|width| usize::from(*width) > 8 * layout.width) {
        return Err(Wrong::Width);
    }
    streams.align(4);
    let mut offsets = Bytes::new(streams.take(groups * offset_bytes).ok_or(Wrong::Streams)?);
    streams.align(4);

    // Sums are modulo 2^64; their low bytes, which are what is written, are right for any width.
    let mut before: Option<u64> = None;
    for (width, out) in widths.iter().zip(out.chunks_mut(GROUP * layout.width)) {
        let offset = signed(offsets.take(offset_bytes).ok_or(Wrong::Streams)?);
        let values =
            streams.stream(out.len() / layout.width, u32::from(*width)).ok_or(Wrong::Streams)?;
        for (index, place) in out.chunks_mut(layout.width).enumerate() {
            let value = values.number(index).ok_or(Wrong::Streams)?;
            let element = match (layout.delta, before) {
                (false, _) => first.wrapping_add(offset).wrapping_add(value),
                (true, None) => first,
                (true, Some(before)) => before.wrapping_add(offset).wrapping_add(value),
            };
            write(element, place);
            before = Some(element);
        }
    }
    Ok(())
}
