//! The reference decoder: reads the page format (docs/page-format.md) sentence by sentence.
//!
//! Owns: what a descriptor and a blob mean, for whoever wants to check a kernel's or an encoder's
//! work. Never: speed; it shares no code with the kernels so that a misreading shows.
#![forbid(unsafe_code)]

mod bits;
mod descriptor;
mod fields;
mod ints;
mod tiles;
mod wrong;

#[cfg(test)]
mod random;
#[cfg(test)]
mod rejects;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer;

use bits::Bytes;
use descriptor::{Descriptor, Layout, Mode};
pub use wrong::Wrong;

use super::page_hash;

/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 32;
/// Elements in a tile; the last one may have fewer.
const TILE: usize = 2048;

/// Decodes a page into `out`, which must have exactly the page's length; `blob` must have exactly
/// the descriptor's size. After an error `out` may hold anything.
pub fn decode(descriptor: &[u8; DESCRIPTOR], blob: &[u8], out: &mut [u8]) -> Result<(), Wrong> {
    let page = Descriptor::read(descriptor)?;
    if out.len() != page.len {
        return Err(Wrong::PageLength);
    }
    if blob.len() != page.size {
        return Err(Wrong::BlobLength);
    }
    match &page.mode {
        Mode::Zero => out.fill(0),
        Mode::Const(pattern) => {
            for (byte, value) in out.iter_mut().zip(pattern.iter().cycle()) {
                *byte = *value;
            }
        }
        Mode::Raw => out.copy_from_slice(blob.get(..out.len()).ok_or(Wrong::BlobLength)?),
        Mode::Fields(layout, codes) => {
            let mut head = Bytes::new(blob);
            let fields = fields::palettes(codes, layout, &mut head)?;
            let (elements, tiles) = head_and_tail(layout, blob, head, out)?;
            for (tile, out) in tiles.iter().zip(elements.chunks_mut(TILE * layout.width)) {
                fields::tile(layout, &fields, tile, out)?;
            }
        }
        Mode::Ints(layout) => {
            let (elements, tiles) = head_and_tail(layout, blob, Bytes::new(blob), out)?;
            for (tile, out) in tiles.iter().zip(elements.chunks_mut(TILE * layout.width)) {
                ints::tile(layout, tile, out)?;
            }
        }
    }
    if page_hash(out) == page.hash { Ok(()) } else { Err(Wrong::Hash) }
}

/// Bytes of the page that a descriptor stands for, checked as far as the descriptor goes.
pub fn page_len(descriptor: &[u8; DESCRIPTOR]) -> Result<usize, Wrong> {
    Descriptor::read(descriptor).map(|page| page.len)
}

/// Copies the tail and reads the tile table, which follow in `head`. Gives the part of the page
/// that the elements take, and the tiles.
fn head_and_tail<'a, 'b>(
    layout: &Layout,
    blob: &'a [u8],
    mut head: Bytes<'a>,
    out: &'b mut [u8],
) -> Result<(&'b mut [u8], Vec<tiles::Tile<'a>>), Wrong> {
    let count = out.len() / layout.width;
    let (elements, tail) =
        out.split_at_mut_checked(count * layout.width).ok_or(Wrong::PageLength)?;
    tail.copy_from_slice(head.take(tail.len()).ok_or(Wrong::Head)?);
    head.align(4);
    Ok((elements, tiles::read(blob, head, count.div_ceil(TILE))?))
}
