//! The library's own kernels: its fatbin is not read but known again, and what runs is the same
//! sources compiled for the CPU (`kernels/cpu_kernels.cc`).

use crate::abi::{Outcome, code};
use crate::image::{Entry, KernelInfo};
use crate::{hash, settings};
use std::ffi::{CStr, c_char, c_void};

include!(concat!(env!("OUT_DIR"), "/fatbin.rs"));

const MAGIC: u32 = 0xBA55_ED50;

/// One row of the table in `cpu_kernels.cc`.
#[repr(C)]
struct Row {
    name: *const c_char,
    run: unsafe extern "C" fn(*mut *mut c_void),
    params: u32,
    offset: *const u32,
    size: *const u32,
}

unsafe extern "C" {
    fn cp_cpu_kernels_any(count: *mut u32) -> *const Row;
    fn cp_cpu_kernels_avx2(count: *mut u32) -> *const Row;
}

/// Whether an image is a fatbin.
pub fn is_one(image: &[u8]) -> bool {
    image.starts_with(&MAGIC.to_le_bytes())
}

/// The length of a fatbin by its header: magic, u16 version, u16 bytes of the header, u64 bytes of
/// the rest.
pub fn length(image: &[u8]) -> usize {
    let number = |at: usize, n: usize| {
        image[at..at + n].iter().rev().fold(0usize, |all, &b| all << 8 | usize::from(b))
    };
    number(6, 2).saturating_add(number(8, 8))
}

/// The kernels of a fatbin, if it is the one whose kernels are compiled in.
pub fn kernels(image: &[u8]) -> Outcome<Vec<KernelInfo>> {
    if settings::get().refuse_kernels || image.len() != BYTES || hash::of(image) != HASH {
        return Err(code::NO_BINARY_FOR_GPU);
    }
    Ok(rows())
}

fn rows() -> Vec<KernelInfo> {
    let has = [
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("bmi1"),
        is_x86_feature_detected!("bmi2"),
        is_x86_feature_detected!("lzcnt"),
        is_x86_feature_detected!("popcnt"),
    ];
    let mut count = 0;
    // SAFETY: both give a static table of `count` rows, each with `params` offsets and sizes.
    unsafe {
        let table = match has.iter().all(|&has| has) {
            true => cp_cpu_kernels_avx2(&mut count),
            false => cp_cpu_kernels_any(&mut count),
        };
        let rows = std::slice::from_raw_parts(table, count as usize);
        let info = |row: &Row| KernelInfo {
            name: CStr::from_ptr(row.name).to_owned(),
            params: (0..row.params as usize)
                .map(|i| (*row.offset.add(i), *row.size.add(i)))
                .collect(),
            entry: Entry::Params(row.run),
        };
        rows.iter().map(info).collect()
    }
}
