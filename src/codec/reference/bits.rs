//! Reading bytes and bits, never past the end of what is there.
#![forbid(unsafe_code)]

/// What is left to read of some bytes.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Bytes { bytes, at: 0 }
    }

    /// The next `len` bytes, if there are as many.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Goes on to a multiple of `to` bytes from the start. That can be past the end; then nothing
    /// can be taken any more.
    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    /// Bytes from the start to what comes next.
    pub fn at(&self) -> usize {
        self.at
    }

    /// A stream of `count` numbers of `width` bits and its padding to a multiple of 4 bytes.
    pub fn stream(&mut self, count: usize, width: u32) -> Option<Stream<'a>> {
        let bits = count.checked_mul(width as usize)?;
        let bytes = self.take(bits.div_ceil(8))?;
        self.align(4);
        Some(Stream { bytes, width })
    }
}

/// Numbers of a few bits each, one after another.
pub struct Stream<'a> {
    bytes: &'a [u8],
    width: u32,
}

impl Stream<'_> {
    /// The number at `index`, if it is there; streams have at most 64 bits a number.
    pub fn number(&self, index: usize) -> Option<u64> {
        let start = index.checked_mul(self.width as usize)?;
        let mut number = 0;
        for (to, from) in (start..).enumerate().take(self.width as usize) {
            let bit = self.bytes.get(from / 8)? >> (from % 8) & 1;
            number |= u64::from(bit) << to;
        }
        Some(number)
    }
}

/// Up to 8 bytes as a number, the lowest first.
pub fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Up to 8 bytes as a signed number, the lowest first, modulo 2^64.
pub fn signed(bytes: &[u8]) -> u64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let above = if negative { u64::MAX } else { 0 };
    bytes.iter().rev().fold(above, |number, byte| number << 8 | u64::from(*byte))
}

/// Writes the low bytes of `number`, as many as `out` has (at most 8).
pub fn write(number: u64, out: &mut [u8]) {
    for (byte, value) in out.iter_mut().zip(number.to_le_bytes()) {
        *byte = value;
    }
}
