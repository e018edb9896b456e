//! `cuGetProcAddress`: the driver is asked first, then its answer is replaced by the export that
//! stands for exactly that function.
//!
//! A variant is recognised by the pointer itself, which is also the address of an exported
//! symbol. Where a driver hands out other addresses than its symbols', the version rule decides,
//! but only for a driver that the list covers. Everything else is unknown and handed out behind
//! a thunk (`latch`). So every way to look a function up ends at one address for each variant.

use super::{bind, guard, latch};
use crate::driver::{self, code, locate};
use crate::exports::{EXPORTS, Export, NEWEST, of_base};
use crate::hook;
use std::ffi::{CStr, c_char, c_void};

/// CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
const PER_THREAD: u64 = 2;

hook! {
    fn cuGetProcAddress(symbol: *const c_char, pfn: *mut *mut c_void, version: i32, flags: u64) |api| {
        let result = guard::real(|| {
            // SAFETY: the program's own call.
            unsafe { (api.cuGetProcAddress)(symbol, pfn, version, flags) }
        });
        if result == code::SUCCESS {
            // SAFETY: the driver accepted both.
            unsafe { replace(symbol, pfn, version, flags) };
        }
        result
    }

    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        pfn: *mut *mut c_void,
        version: i32,
        flags: u64,
        status: *mut u32,
    ) |api| {
        let result = guard::real(|| {
            // SAFETY: the program's own call.
            unsafe { (api.cuGetProcAddress_v2)(symbol, pfn, version, flags, status) }
        });
        if result == code::SUCCESS {
            // SAFETY: the driver accepted both.
            unsafe { replace(symbol, pfn, version, flags) };
        }
        result
    }
}

/// Puts ours in place of what the driver wrote.
///
/// # Safety
/// `symbol` is null or terminated; `pfn` is null or may be read and written.
unsafe fn replace(symbol: *const c_char, pfn: *mut *mut c_void, version: i32, flags: u64) {
    if symbol.is_null() || pfn.is_null() {
        return;
    }
    // SAFETY: the caller's promise.
    let (found, name) = unsafe { (*pfn as *const (), CStr::from_ptr(symbol)) };
    let Ok(name) = name.to_str() else { return };
    if found.is_null() || name.is_empty() {
        return;
    }
    let ours = ours(name, found, version, flags);
    // SAFETY: as above.
    unsafe { *pfn = ours.cast_mut().cast() };
}

fn ours(name: &str, found: *const (), version: i32, flags: u64) -> *const () {
    let exports = &EXPORTS[of_base(name)];
    let first = of_base(name).start;
    let by_rule = by_version(exports, version, flags);
    let same = |i: &usize| bind::real(first + i) == found;
    // Several variants may share one function of the driver; then the version tells them apart.
    let index = match by_rule.filter(same).or_else(|| (0..exports.len()).find(same)) {
        Some(index) => Some(index),
        None if locate::own_image().contains(&(found as usize)) => return found,
        None => {
            let covered = driver::version() <= NEWEST;
            by_rule.filter(|i| covered && !bind::real(first + i).is_null())
        }
    };
    match index {
        Some(index) => exports[index].stub.0,
        None => latch::unknown(found, name, version),
    }
}

/// The variant that a version and a flag mean: the newest not above the version, in its
/// per-thread form where one is asked for and exists at that version.
fn by_version(exports: &[Export], version: i32, flags: u64) -> Option<usize> {
    let newest = |per_thread: bool| {
        exports.iter().rposition(|e| e.per_thread == per_thread && e.version <= version)
    };
    let per_thread = if flags & PER_THREAD != 0 { newest(true) } else { None };
    per_thread.or_else(|| newest(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(base: &str, version: i32, flags: u64) -> Option<&'static str> {
        let exports = &EXPORTS[of_base(base)];
        by_version(exports, version, flags).map(|i| exports[i].name())
    }

    #[test]
    fn versions_mean_the_variants_they_always_meant() {
        assert_eq!(symbol("cuMemAlloc", 13000, 0), Some("cuMemAlloc_v2"));
        assert_eq!(symbol("cuMemAlloc", 3010, 0), Some("cuMemAlloc"));
        assert_eq!(symbol("cuGetProcAddress", 11030, 0), Some("cuGetProcAddress"));
        assert_eq!(symbol("cuGetProcAddress", 12000, 0), Some("cuGetProcAddress_v2"));
        assert_eq!(symbol("cuMemcpyHtoDAsync", 12080, 0), Some("cuMemcpyHtoDAsync_v2"));
        assert_eq!(symbol("cuMemcpyHtoDAsync", 12080, 2), Some("cuMemcpyHtoDAsync_v2_ptsz"));
        assert_eq!(symbol("cuMemPrefetchAsync", 12010, 2), Some("cuMemPrefetchAsync_ptsz"));
        assert_eq!(symbol("cuMemPrefetchAsync", 12020, 2), Some("cuMemPrefetchAsync_v2_ptsz"));
        assert_eq!(symbol("cuCtxCreate", 12050, 0), Some("cuCtxCreate_v4"));
    }

    #[test]
    fn a_version_before_the_per_thread_form_means_the_plain_one() {
        assert_eq!(symbol("cuLaunchKernel", 4000, 2), Some("cuLaunchKernel"));
        assert_eq!(symbol("cuMemAlloc", 13000, 2), Some("cuMemAlloc_v2"));
    }

    #[test]
    fn unlisted_names_and_versions_mean_nothing() {
        assert_eq!(symbol("cuNoSuchThing", 13000, 0), None);
        assert_eq!(symbol("cuLaunchKernelEx", 11050, 0), None);
    }
}
