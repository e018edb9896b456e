//! Why a page cannot be decoded.
#![forbid(unsafe_code)]

use std::fmt;

/// Why a page cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Another version of the format.
    Version,
    /// No mode has this number.
    Mode,
    /// Bits of the layout that do not exist, or that the mode or the width does not have.
    Layout,
    /// A byte of the descriptor that must be zero is not.
    Reserved,
    /// No coding of fields has this number, or this layout does not have it.
    Code,
    /// The size of the blob does not fit the mode and the length of the page.
    Size,
    /// The page has less than one element.
    NoElement,
    /// The output does not have the page's length.
    PageLength,
    /// The blob does not have the descriptor's size.
    BlobLength,
    /// Palettes, tail and tile table do not fit in the blob.
    Head,
    /// A bit of the tile table that must be zero is not.
    Table,
    /// A tile starts outside the blob or not where it should.
    Start,
    /// A mask names a block that the tile does not have.
    Mask,
    /// A tile's streams do not end inside it.
    Streams,
    /// A value is too large for its field.
    Value,
    /// A group's width is out of range.
    Width,
    /// The bytes of an offset are out of range.
    Offset,
    /// The bytes are not the original's.
    Hash,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Version => "another version of the page format",
            Wrong::Mode => "no such mode",
            Wrong::Layout => "no such layout in this mode",
            Wrong::Reserved => "a byte of the descriptor that must be zero is not",
            Wrong::Code => "no such coding of a field",
            Wrong::Size => "the size of the blob does not fit the page",
            Wrong::NoElement => "the page has less than one element",
            Wrong::PageLength => "the output does not have the page's length",
            Wrong::BlobLength => "the blob does not have the descriptor's size",
            Wrong::Head => "palettes, tail and tile table do not fit in the blob",
            Wrong::Table => "a bit of the tile table that must be zero is not",
            Wrong::Start => "a tile starts outside the blob or not where it should",
            Wrong::Mask => "a mask names a block that the tile does not have",
            Wrong::Streams => "a tile's streams do not end inside it",
            Wrong::Value => "a value is too large for its field",
            Wrong::Width => "the width of a group is out of range",
            Wrong::Offset => "the bytes of an offset are out of range",
            Wrong::Hash => "the bytes are not the original's",
        })
    }
}

impl std::error::Error for Wrong {}
