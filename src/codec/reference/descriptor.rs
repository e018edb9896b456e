//! The 32 bytes that describe a page.
#![forbid(unsafe_code)]

use super::{DESCRIPTOR, Wrong};

const VERSION: u8 = 1;
/// A blob is counted in pieces of so many bytes.
const UNIT: usize = 16;

/// What a descriptor says.
pub struct Descriptor {
    pub mode: Mode,
    /// Of the original bytes.
    pub hash: u32,
    /// Bytes of the blob.
    pub size: usize,
    /// Bytes of the page.
    pub len: usize,
}

pub enum Mode {
    Zero,
    Const([u8; 16]),
    Raw,
    /// With the codes of the fields that the layout has, in order.
    Fields(Layout, Vec<Code>),
    Ints(Layout),
}

/// How bytes form elements and elements fields.
pub struct Layout {
    /// Bytes of an element: 1, 2, 4 or 8.
    pub width: usize,
    pub rotate: bool,
    pub nibbles: bool,
    pub bitmap: bool,
    pub delta: bool,
}

/// How a field is coded.
#[derive(Clone, Copy)]
pub enum Code {
    Constant(u8),
    Raw,
    /// Codes of so many bits.
    Fixed(u32),
    /// Codes of so many bits in the first stream and in the second; bytes in the third.
    Tiers(u32, u32),
}

impl Descriptor {
    /// Reads and checks what can be checked without the blob.
    pub fn read(bytes: &[u8; DESCRIPTOR]) -> Result<Descriptor, Wrong> {
        // The place (bytes 8 to 11) is for whoever keeps blobs.
        let [version, mode, layout, zero, h0, h1, h2, h3, _, _, _, _, s0, s1, l0, l1, inline @ ..] =
            bytes;
        let inline: &[u8; 16] = inline;
        if *version != VERSION {
            return Err(Wrong::Version);
        }
        if *zero != 0 {
            return Err(Wrong::Reserved);
        }
        let size = usize::from(u16::from_le_bytes([*s0, *s1])) * UNIT;
        let len = usize::from(u16::from_le_bytes([*l0, *l1])) + 1;
        let full = len.next_multiple_of(UNIT);
        let (mode, size_fits) = match mode {
            0 => (Mode::Zero, size == 0),
            1 => (Mode::Const(*inline), size == 0),
            2 => (Mode::Raw, size == full),
            3 => (fields(*layout, inline)?, size <= full),
            4 => (Mode::Ints(Layout::of_ints(*layout)?), size <= full),
            _ => return Err(Wrong::Mode),
        };
        match &mode {
            Mode::Zero | Mode::Const(_) | Mode::Raw if *layout != 0 => return Err(Wrong::Layout),
            Mode::Zero | Mode::Raw | Mode::Ints(_) if *inline != [0; 16] => {
                return Err(Wrong::Reserved);
            }
            Mode::Fields(layout, _) | Mode::Ints(layout) if len < layout.width => {
                return Err(Wrong::NoElement);
            }
            _ => {}
        }
        if !size_fits {
            return Err(Wrong::Size);
        }
        let hash = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
        Ok(Descriptor { mode, hash, size, len })
    }
}

/// The mode FIELDS with its layout and codes.
fn fields(layout: u8, inline: &[u8; 16]) -> Result<Mode, Wrong> {
    let layout = Layout::of_fields(layout)?;
    let (numbers, values) = inline.split_at(8);
    let mut codes = Vec::new();
    for (field, (number, value)) in numbers.iter().zip(values).enumerate() {
        let exists = field < layout.fields();
        // Only a constant field has a value; what does not exist has neither code nor value.
        if *value != 0 && !(exists && *number == 0) || *number != 0 && !exists {
            return Err(Wrong::Reserved);
        }
        if exists {
            codes.push(Code::read(*number, *value, &layout)?);
        }
    }
    Ok(Mode::Fields(layout, codes))
}

impl Layout {
    /// Any layout whose two highest bits are 0.
    fn read(bits: u8) -> Result<Layout, Wrong> {
        if bits >> 6 != 0 {
            return Err(Wrong::Layout);
        }
        let bit = |at: u8| bits >> at & 1 == 1;
        let width = 1 << (bits & 3);
        Ok(Layout { width, rotate: bit(2), nibbles: bit(3), bitmap: bit(4), delta: bit(5) })
    }

    fn of_fields(bits: u8) -> Result<Layout, Wrong> {
        let layout = Layout::read(bits)?;
        let halves_of_more = layout.nibbles && layout.width != 1;
        if layout.delta || halves_of_more { Err(Wrong::Layout) } else { Ok(layout) }
    }

    fn of_ints(bits: u8) -> Result<Layout, Wrong> {
        let layout = Layout::read(bits)?;
        let of_fields = layout.rotate || layout.nibbles || layout.bitmap;
        if of_fields || layout.width == 1 { Err(Wrong::Layout) } else { Ok(layout) }
    }

    /// Fields of an element.
    pub fn fields(&self) -> usize {
        if self.nibbles { 2 } else { self.width }
    }

    /// Bits of a field.
    pub fn field_bits(&self) -> u32 {
        if self.nibbles { 4 } else { 8 }
    }

    /// Whether all of these are values of a field.
    pub fn holds(&self, values: &[u8]) -> bool {
        values.iter().all(|value| u32::from(*value) >> self.field_bits() == 0)
    }
}

impl Code {
    fn read(number: u8, value: u8, layout: &Layout) -> Result<Code, Wrong> {
        let tiers = (u32::from(number >> 3 & 7), u32::from(number & 7));
        match (number, tiers) {
            (0, _) if layout.holds(&[value]) => Ok(Code::Constant(value)),
            (0, _) => Err(Wrong::Value),
            (1, _) if !layout.nibbles => Ok(Code::Raw),
            (0x11..=0x14, _) => Ok(Code::Fixed(u32::from(number - 0x10))),
            (0x15..=0x16, _) if !layout.nibbles => Ok(Code::Fixed(u32::from(number - 0x10))),
            (0x80..=0xBF, (first @ 1..=6, second @ 1..=6)) => Ok(Code::Tiers(first, second)),
            _ => Err(Wrong::Code),
        }
    }
}
