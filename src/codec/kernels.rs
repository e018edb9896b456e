//! The library's kernels for devices: the image that is loaded into a context, and what its
//! functions want.
//!
//! The image holds machine code for the architectures of scripts/build-kernels.sh and PTX for
//! later ones.
#![forbid(unsafe_code)]

/// The image.
pub static FATBIN: &[u8] = include_bytes!("../../kernels/coldpress.fatbin");
/// Codes pages: `(pages, lens, hint, count, descriptors, blobs, scratch)`.
pub const ENCODE: &std::ffi::CStr = c"cp_pages_encode_v1";
/// Decodes pages: `(descriptors, blobs, pages, count, verdicts, scratch)`.
pub const DECODE: &std::ffi::CStr = c"cp_pages_decode_v1";
/// Searches for addresses: `(ranges, count, chunks, targets, found, room, taken)`.
pub const SCAN: &std::ffi::CStr = c"cp_scan_v1";
/// Bytes of scratch that a warp coding a page takes.
pub const ENCODE_SCRATCH: usize = 30_224;
/// Bytes of scratch that a warp decoding a page takes.
pub const DECODE_SCRATCH: usize = 18_912;
