//! The tile table: where each tile is and which blocks it has.
#![forbid(unsafe_code)]

use super::Wrong;
use super::bits::{Bytes, unsigned};

/// Starts are counted in pieces of so many bytes.
const UNIT: usize = 16;
const START: u64 = 0x3FFF;
const MASK: u64 = 0xF_0000;

/// One tile of a blob.
pub struct Tile<'a> {
    /// Bit b says that block b is stored.
    pub mask: u8,
    pub bytes: &'a [u8],
}

/// Reads the table of `count` tiles, which `head` has come to, and finds the tiles' bytes.
pub fn read<'a>(blob: &'a [u8], mut head: Bytes<'a>, count: usize) -> Result<Vec<Tile<'a>>, Wrong> {
    let table = head.take(count * 4).ok_or(Wrong::Head)?;
    head.align(UNIT);
    let mut starts = Vec::new();
    let mut masks = Vec::new();
    for entry in table.chunks(4).map(unsigned) {
        if entry & !(START | MASK) != 0 {
            return Err(Wrong::Table);
        }
        starts.push((entry & START) as usize * UNIT);
        masks.push((entry >> 16) as u8);
    }
    if starts.first() != Some(&head.at()) {
        return Err(Wrong::Start);
    }
    // A tile ends where the next one starts, the last one with the blob.
    let ends = starts.iter().skip(1).copied().chain([blob.len()]);
    let tiles = starts.iter().zip(ends).zip(masks);
    tiles
        .map(|((start, end), mask)| {
            let bytes = blob.get(*start..end).ok_or(Wrong::Start)?;
            Ok(Tile { mask, bytes })
        })
        .collect()
}
