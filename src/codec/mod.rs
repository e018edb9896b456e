//! Page codecs: the format's descriptor, the kernels for the processor (`cpu`) and for a device
//! (`kernels`), and a decoder that shares nothing with them (`reference`).
//!
//! Owns: how one page of at most [`PAGE`] bytes is described, and its hash. Never: where bytes
//! are kept (the tier does that) or when (residency does).

pub mod cpu;
mod hash;
pub mod kernels;
pub mod reference;

pub use hash::page_hash;

/// Bytes in a codec page.
pub const PAGE: usize = 64 << 10;

/// The modes of the format by number, as they are called in statistics.
pub const MODES: [&str; 5] = ["zero", "const", "raw", "fields", "ints"];

const ZERO: u8 = 0;
const CONST: u8 = 1;
const RAW: u8 = 2;

/// What stands for a page: see docs/page-format.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Descriptor(pub [u8; reference::DESCRIPTOR]);

impl Descriptor {
    /// Describes 1 to [`PAGE`] bytes without coding them: zero, the same 8 bytes over and over, or
    /// as they are. The blob of the last is the page.
    pub fn plain(page: &[u8]) -> Descriptor {
        debug_assert!((1..=PAGE).contains(&page.len()));
        let mut out = Descriptor([0; reference::DESCRIPTOR]);
        let (mode, word) = detect(page);
        out.0[0] = 1;
        out.0[1] = mode;
        out.0[4..8].copy_from_slice(&page_hash(page).to_le_bytes());
        if mode == RAW {
            out.0[12..14].copy_from_slice(&(page.len().div_ceil(16) as u16).to_le_bytes());
        }
        out.0[14..16].copy_from_slice(&((page.len() - 1) as u16).to_le_bytes());
        if mode == CONST {
            out.0[16..24].copy_from_slice(&word.to_le_bytes());
            out.0[24..32].copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Number of its mode, below the length of [`MODES`] in a page that a coder made.
    pub fn mode(&self) -> usize {
        usize::from(self.0[1])
    }

    /// True where the blob is the page as it is.
    pub fn is_raw(&self) -> bool {
        self.0[1] == RAW
    }

    /// Hash of the page's bytes.
    pub fn hash(&self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// Bytes of the blob, a multiple of 16.
    pub fn stored(&self) -> usize {
        usize::from(u16::from_le_bytes([self.0[12], self.0[13]])) * 16
    }

    /// Bytes of the page.
    pub fn bytes(&self) -> usize {
        usize::from(u16::from_le_bytes([self.0[14], self.0[15]])) + 1
    }

    /// The same page with its blob at `place`, in units of 16 bytes from where a decoder is told
    /// that blobs begin.
    pub fn at(mut self, place: u32) -> Descriptor {
        self.0[8..12].copy_from_slice(&place.to_le_bytes());
        self
    }

    /// What to expect of the page's neighbours: the way it was coded, if it was.
    pub fn hint(&self) -> Option<cpu::Hint> {
        (self.0[1] > RAW).then(|| cpu::Hint::of(self.0[1], self.0[2]))
    }
}

/// The mode that needs no coding, and its word.
fn detect(bytes: &[u8]) -> (u8, u64) {
    let (words, tail) = bytes.as_chunks::<8>();
    let Some(first) = words.first() else {
        return (if tail.iter().all(|&b| b == 0) { ZERO } else { RAW }, 0);
    };
    let word = u64::from_le_bytes(*first);
    // Blocks of 64 words keep the early exit cheap and let the comparison vectorise.
    for chunk in words.chunks(64) {
        if chunk.iter().fold(0, |acc, w| acc | (u64::from_le_bytes(*w) ^ word)) != 0 {
            return (RAW, 0);
        }
    }
    let mode = if word == 0 && tail.iter().all(|&b| b == 0) {
        ZERO
    } else if tail.is_empty() {
        CONST
    } else {
        RAW
    };
    (mode, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let page = Descriptor::plain(bytes);
        let mut blob = if page.is_raw() { bytes.to_vec() } else { Vec::new() };
        blob.resize(page.stored(), 0);
        let mut out = vec![0xEE; bytes.len()];
        reference::decode(&page.0, &blob, &mut out).expect("a good page");
        assert_eq!(out, bytes);
        out.fill(0);
        cpu::Coder::new().decode(&page.0, &blob, &mut out).expect("a good page");
        assert_eq!(out, bytes);
        assert_eq!((page.bytes(), page.hash()), (bytes.len(), page_hash(bytes)));
        page.mode()
    }

    #[test]
    fn modes() {
        let names = |bytes: &[u8]| MODES[round_trip(bytes)];
        assert_eq!(names(&[0; PAGE]), "zero");
        assert_eq!(names(&[0; 3]), "zero");
        assert_eq!(names(&[7; PAGE]), "const");
        assert_eq!(names(&[7; 24]), "const", "no multiple of 16");
        assert_eq!(names(&[7; 11]), "raw", "an odd tail is kept as it is");
        let mut late = vec![0; PAGE];
        late[PAGE - 1] = 1;
        assert_eq!(names(&late), "raw");
    }

    #[test]
    fn what_a_coder_says_is_read() {
        let bytes: Vec<u8> = (0..PAGE).map(|i| (i / 512) as u8).collect();
        let (descriptor, blob) = {
            let mut coder = cpu::Coder::new();
            let (descriptor, blob) = coder.encode(&bytes, cpu::Hint::default());
            (Descriptor(descriptor), blob.to_vec())
        };
        assert_eq!((descriptor.bytes(), descriptor.stored()), (PAGE, blob.len()));
        assert!(descriptor.hint().is_some() && descriptor.mode() > usize::from(RAW));
        let moved = descriptor.at(77);
        assert_eq!(moved.0[8..12], 77u32.to_le_bytes());
        assert_eq!((moved.hash(), moved.stored()), (descriptor.hash(), descriptor.stored()));
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..4000)) {
            round_trip(&bytes);
        }

        #[test]
        fn any_single_bit_changes_the_hash(len in 1usize..4000, at in any::<usize>(), bit in 0u8..8) {
            let bytes: Vec<u8> = (0..len).map(|i| (i ^ i >> 7) as u8).collect();
            let mut other = bytes.clone();
            other[at % len] ^= 1 << bit;
            prop_assert_ne!(page_hash(&bytes), page_hash(&other));
        }
    }
}
