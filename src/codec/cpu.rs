//! The codec's kernels (`kernels/codec`) as compiled for the processor.
//!
//! Owns: the work space and the alignment they need, and the choice between their two builds.
//! Never: what the format means, which is theirs and the reference decoder's.

use super::PAGE;
use super::reference::DESCRIPTOR;
use std::sync::OnceLock;

/// What is known of a page's bytes before they are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hint {
    known: u8,
    mode: u8,
    layout: u8,
    among: u8,
}

impl Hint {
    /// To be coded as a page with this mode and layout was, without a look.
    pub(super) fn of(mode: u8, layout: u8) -> Hint {
        Hint { known: 1, mode, layout, among: 0 }
    }
}

/// What the bytes of a buffer are said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Nobody said; every page is looked at.
    Auto,
    /// Floats of so many bytes: 1 (e4m3, e5m2), 2 (bf16, fp16), 4, 8.
    Float(u8),
    /// Whole numbers of so many bytes, or bytes of anything.
    Int(u8),
}

impl Dtype {
    /// All names that [`Dtype::parse`] knows.
    pub const NAMES: [&str; 15] = [
        "auto", "bf16", "fp16", "fp32", "fp64", "e4m3", "e5m2", "bool", "u8", "i8", "i16", "i32",
        "i64", "u32", "u64",
    ];

    /// The type of a name, as PyTorch and NumPy shorten them.
    pub fn parse(name: &str) -> Option<Dtype> {
        Some(match name {
            "auto" => Dtype::Auto,
            "e4m3" | "e5m2" => Dtype::Float(1),
            "bf16" | "fp16" => Dtype::Float(2),
            "fp32" => Dtype::Float(4),
            "fp64" => Dtype::Float(8),
            "bool" | "u8" | "i8" => Dtype::Int(1),
            "i16" => Dtype::Int(2),
            "i32" | "u32" => Dtype::Int(4),
            "i64" | "u64" => Dtype::Int(8),
            _ => return None,
        })
    }

    /// What an encoder makes of it.
    pub fn hint(self) -> Hint {
        const FLOATS: u8 = 16;
        const NUMBERS: u8 = 32;
        // Elements of 1, 2, 4 and 8 bytes have bits 0 to 3.
        let among = match self {
            Dtype::Auto => 0,
            Dtype::Float(width) => FLOATS | 1 << width.ilog2(),
            Dtype::Int(width) => NUMBERS | 1 << width.ilog2(),
        };
        Hint { among, ..Hint::default() }
    }
}

/// Why a page could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Descriptor or blob are not what the format allows.
    Format,
    /// The bytes are not the original's.
    Hash,
}

type Encode =
    unsafe extern "C" fn(*const u8, u32, Hint, *mut [u8; DESCRIPTOR], *mut u8, *mut Aligned);
type Decode =
    unsafe extern "C" fn(*const [u8; DESCRIPTOR], *const u8, u32, *mut u8, *mut Aligned) -> u32;

/// The functions of one build.
#[derive(Clone, Copy, Debug)]
struct Kernels {
    scratch_bytes: unsafe extern "C" fn() -> u32,
    encode: Encode,
    decode: Decode,
}

macro_rules! kernels {
    ($name:ident, $scratch:ident, $encode:ident, $decode:ident) => {
        unsafe extern "C" {
            fn $scratch() -> u32;
            fn $encode(
                page: *const u8,
                len: u32,
                hint: Hint,
                descriptor: *mut [u8; DESCRIPTOR],
                out: *mut u8,
                scratch: *mut Aligned,
            );
            fn $decode(
                descriptor: *const [u8; DESCRIPTOR],
                blob: *const u8,
                bytes: u32,
                out: *mut u8,
                scratch: *mut Aligned,
            ) -> u32;
        }
        static $name: Kernels =
            Kernels { scratch_bytes: $scratch, encode: $encode, decode: $decode };
    };
}

kernels!(ANY, cp_scratch_bytes_any, cp_page_encode_any, cp_page_decode_any);
kernels!(AVX2, cp_scratch_bytes_avx2, cp_page_encode_avx2, cp_page_decode_avx2);
kernels!(DEVICE, cp_scratch_bytes_device, cp_page_encode_device, cp_page_decode_device);

unsafe extern "C" {
    #[cfg(test)]
    fn cp_encode_scratch_bytes_device() -> u32;
    #[cfg(test)]
    fn cp_decode_scratch_bytes_device() -> u32;
}

/// The faster build that this processor can run.
fn kernels() -> &'static Kernels {
    static CHOSEN: OnceLock<&Kernels> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let has = [
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("bmi1"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("lzcnt"),
            is_x86_feature_detected!("popcnt"),
        ];
        if has.iter().all(|&has| has) { &AVX2 } else { &ANY }
    })
}

/// Bytes at an address that the kernels want.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Aligned([u8; 64]);

fn aligned(bytes: usize) -> Vec<Aligned> {
    vec![Aligned([0; 64]); bytes.div_ceil(64)]
}

/// Codes and decodes pages, one at a time. One for each thread.
#[derive(Debug)]
pub struct Coder {
    kernels: &'static Kernels,
    scratch: Vec<Aligned>,
    page: Vec<Aligned>,
    blob: Vec<Aligned>,
}

impl Default for Coder {
    fn default() -> Coder {
        Coder::new()
    }
}

impl Coder {
    /// With its work space of about a megabyte.
    pub fn new() -> Coder {
        Coder::with(kernels())
    }

    /// With the build that any processor can run, for tests.
    pub fn portable() -> Coder {
        Coder::with(&ANY)
    }

    /// With the build that takes the paths of a device, lane by lane, for tests.
    pub fn as_device() -> Coder {
        Coder::with(&DEVICE)
    }

    fn with(kernels: &'static Kernels) -> Coder {
        // SAFETY: no arguments.
        let scratch = unsafe { (kernels.scratch_bytes)() } as usize;
        let (page, blob) = (aligned(PAGE), aligned(PAGE));
        Coder { kernels, scratch: aligned(scratch), page, blob }
    }

    fn take(&mut self, page: &[u8]) {
        assert!((1..=PAGE).contains(&page.len()), "a page of {} bytes", page.len());
        // SAFETY: the vector has PAGE bytes, and any bytes are valid in it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                page.as_ptr(),
                self.page.as_mut_ptr().cast::<u8>(),
                page.len(),
            );
        }
    }

    /// Codes a page: its descriptor and its blob.
    ///
    /// # Panics
    /// If `page` does not have 1 to [`PAGE`] bytes.
    pub fn encode(&mut self, page: &[u8], hint: Hint) -> ([u8; DESCRIPTOR], &[u8]) {
        self.take(page);
        let mut descriptor = [0; DESCRIPTOR];
        // SAFETY: the page has so many bytes and stands where the kernels want it; the scratch is as
        // large as they say and nobody else's; the blob's room is that of a page, which no blob
        // exceeds.
        unsafe {
            (self.kernels.encode)(
                self.page.as_ptr().cast(),
                page.len() as u32,
                hint,
                &mut descriptor,
                self.blob.as_mut_ptr().cast(),
                self.scratch.as_mut_ptr(),
            );
        }
        let bytes = usize::from(u16::from_le_bytes([descriptor[12], descriptor[13]])) * 16;
        const RAW: u8 = 2;
        if descriptor[1] == RAW {
            self.blob.copy_from_slice(&self.page);
            let padding = bytes - page.len();
            // SAFETY: the padding lies inside the blob's room.
            unsafe {
                let end = self.blob.as_mut_ptr().cast::<u8>().add(page.len());
                end.write_bytes(0, padding);
            }
        }
        // SAFETY: so many bytes of it were written, or were zero before.
        let blob = unsafe { std::slice::from_raw_parts(self.blob.as_ptr().cast(), bytes) };
        (descriptor, blob)
    }

    /// Decodes a page into `out`, which has exactly its bytes, and checks them.
    pub fn decode(
        &mut self,
        descriptor: &[u8; DESCRIPTOR],
        blob: &[u8],
        out: &mut [u8],
    ) -> Result<(), Broken> {
        let len = usize::from(u16::from_le_bytes([descriptor[14], descriptor[15]])) + 1;
        if out.len() != len || blob.len() > PAGE {
            return Err(Broken::Format);
        }
        // SAFETY: blob and page have room for a page, and the kernels neither read past the blob's
        // bytes nor write past the page's, whatever the bytes are.
        let verdict = unsafe {
            let at = self.blob.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(blob.as_ptr(), at, blob.len());
            let page = self.page.as_mut_ptr().cast::<u8>();
            let scratch = self.scratch.as_mut_ptr();
            (self.kernels.decode)(descriptor, at, blob.len() as u32, page, scratch)
        };
        match verdict {
            0 => {}
            1 => return Err(Broken::Format),
            _ => return Err(Broken::Hash),
        }
        // SAFETY: the page was written as far as `out` goes.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.page.as_ptr().cast::<u8>(),
                out.as_mut_ptr(),
                out.len(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernels::{DECODE_SCRATCH, ENCODE_SCRATCH};
    use super::{cp_decode_scratch_bytes_device, cp_encode_scratch_bytes_device};

    #[test]
    fn the_kernels_say_the_same_sizes() {
        // SAFETY: no arguments. That build has the types as a device has them.
        let said = unsafe { (cp_encode_scratch_bytes_device(), cp_decode_scratch_bytes_device()) };
        assert_eq!((said.0 as usize, said.1 as usize), (ENCODE_SCRATCH, DECODE_SCRATCH));
        // A few thousand warps at once must not need what was to be saved.
        const { assert!(ENCODE_SCRATCH <= 32 << 10 && DECODE_SCRATCH <= 20 << 10) };
    }
}
