//! The functions of `coldpress.h`. What each promises is written there, and only there.
#![allow(missing_docs, reason = "include/coldpress.h documents them")]

use super::gate::{call, find, guarded, managing};
use super::status::{self, Failure, failed, failure};
use super::{instance, snapshot, statistics, tags};
use crate::driver::{CUdeviceptr, code};
use crate::residency::control::{self, Which};
use crate::residency::{engine, prefetch};
use std::ffi::{CStr, c_char, c_int, c_void};

const ADVISE_COLD: c_int = 1;
const ADVISE_HOT: c_int = 2;
const STRICT: u32 = 1;

/// Allocates in the current context, as the driver does.
///
/// # Safety
/// `ptr` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_malloc(ptr: *mut *mut c_void, bytes: usize) -> c_int {
    // Not guarded: the driver function it calls is our own hook, which is.
    if ptr.is_null() {
        return status::finish(Err(failure(status::INVALID, "malloc: no place for the address")));
    }
    let mut address: CUdeviceptr = 0;
    let result = match instance::program() {
        // SAFETY: `address` is a live local.
        Some(api) => match unsafe { (api.cuMemAlloc_v2)(&mut address, bytes) } {
            code::SUCCESS => Ok(()),
            e => Err(failed(&format!("malloc of {bytes} bytes"), e)),
        },
        None => Err(failure(status::ABSENT, "malloc: no driver is loaded")),
    };
    // SAFETY: not null, and the caller's to write.
    unsafe { *ptr = if result.is_ok() { address as *mut c_void } else { std::ptr::null_mut() } };
    status::finish(result)
}

/// Frees, as the driver does.
#[unsafe(no_mangle)]
pub extern "C" fn coldpress_free(ptr: *mut c_void) -> c_int {
    if ptr.is_null() {
        return status::OK;
    }
    status::finish(match instance::program() {
        // SAFETY: the driver checks the address.
        Some(api) => match unsafe { (api.cuMemFree_v2)(ptr as CUdeviceptr) } {
            code::SUCCESS => Ok(()),
            e => Err(failed(&format!("free of {ptr:p}"), e)),
        },
        None => Err(failure(status::ABSENT, "free: no driver is loaded")),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_pin(ptr: *const c_void) -> c_int {
    call("coldpress_pin", || {
        if find(ptr as u64)?.is_none() {
            return Ok(());
        }
        control::pin(ptr as u64).map_err(|e| failed("pin", e))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_unpin(ptr: *const c_void) -> c_int {
    call("coldpress_unpin", || {
        let Some(found) = find(ptr as u64)? else { return Ok(()) };
        if found.allocation.pins == 0 {
            return Err(failure(status::INVALID, format!("unpin: {ptr:p} is not pinned")));
        }
        control::unpin(ptr as u64).map_err(|e| failed("unpin", e))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_prefetch(ptr: *const c_void) -> c_int {
    call("coldpress_prefetch", || {
        if let Some(found) = find(ptr as u64)? {
            prefetch::ask(found.block);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_advise(ptr: *const c_void, advice: c_int) -> c_int {
    call("coldpress_advise", || {
        let cold = match advice {
            ADVISE_COLD => true,
            ADVISE_HOT => false,
            _ => return Err(failure(status::INVALID, format!("advise: no advice {advice}"))),
        };
        if find(ptr as u64)?.is_none() {
            return Ok(());
        }
        control::hint(ptr as u64, cold).map_err(|e| failed("advise", e))
    })
}

/// Evicts one allocation, those of a tag, or all.
///
/// # Safety
/// `tag` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_evict(
    ptr: *const c_void,
    tag: *const c_char,
    flags: u32,
) -> c_int {
    call("coldpress_evict", || {
        // SAFETY: passed on from our caller.
        let meant = unsafe { Meant::new("evict", ptr, tag) }?;
        if flags & !STRICT != 0 {
            return Err(failure(status::INVALID, format!("evict: unknown flags {flags:#x}")));
        }
        if !managing() {
            return Err(failure(status::ABSENT, "evict: coldpress manages nothing here"));
        }
        let found = if ptr.is_null() { None } else { find(ptr as u64)? };
        if !engine::armed() {
            return Err(failure(status::OFF, "evict: eviction is off; coldpress stat says why"));
        }
        control::evict(meant.which()).map_err(|e| failed("evict", e))?;
        match found {
            Some(found) if found.allocation.pins > 0 && !control::away(found.block) => {
                Err(failure(status::PINNED, format!("evict: {ptr:p} is pinned")))
            }
            None if flags & STRICT == 0 => Ok(()),
            _ => all_away(meant.which()),
        }
    })
}

fn all_away(which: Which<'_>) -> Result<(), Failure> {
    let staying = control::staying(which).map_err(|e| failed("evict", e))?;
    if staying.blocks == 0 {
        return Ok(());
    }
    let text = format!(
        "evict: {} blocks stay on the device, {} of them pinned and {} of small allocations; the \
         others are used right now, memory names them, or there is no host memory for them",
        staying.blocks, staying.pinned, staying.slabs
    );
    Err(failure(status::KEPT, text))
}

/// Restores one allocation, those of a tag, or all.
///
/// # Safety
/// `tag` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_restore(
    ptr: *const c_void,
    tag: *const c_char,
    flags: u32,
) -> c_int {
    call("coldpress_restore", || {
        // SAFETY: passed on from our caller.
        let meant = unsafe { Meant::new("restore", ptr, tag) }?;
        if flags != 0 {
            return Err(failure(status::INVALID, format!("restore: unknown flags {flags:#x}")));
        }
        if !managing() || (!ptr.is_null() && find(ptr as u64)?.is_none()) {
            return Ok(());
        }
        control::restore_which(meant.which()).map_err(|e| failed("restore", e))
    })
}

/// What the two arguments of evict and restore mean.
enum Meant {
    At(CUdeviceptr),
    Tagged(Vec<u32>),
    All,
}

impl Meant {
    /// # Safety
    /// `tag` is null or a string.
    unsafe fn new(doing: &str, ptr: *const c_void, tag: *const c_char) -> Result<Meant, Failure> {
        match (ptr.is_null(), tag.is_null()) {
            (true, true) => Ok(Meant::All),
            (false, true) => Ok(Meant::At(ptr as CUdeviceptr)),
            // SAFETY: not null, so a string by our caller's promise.
            (true, false) => Ok(Meant::Tagged(tags::containing(unsafe { name(doing, tag) }?))),
            (false, false) => {
                Err(failure(status::INVALID, format!("{doing}: a pointer or a tag, not both")))
            }
        }
    }

    fn which(&self) -> Which<'_> {
        match self {
            Meant::At(ptr) => Which::At(*ptr),
            Meant::Tagged(tags) => Which::Tagged(tags),
            Meant::All => Which::All,
        }
    }
}

/// A tag as the program wrote it.
///
/// # Safety
/// `tag` is a string that lives as long as the answer.
unsafe fn name<'a>(doing: &str, tag: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: promised by the caller.
    match unsafe { CStr::from_ptr(tag) }.to_str() {
        Ok(name) if (1..=tags::LONGEST).contains(&name.len()) => Ok(name),
        _ => Err(failure(status::INVALID, format!("{doing}: a tag is 1 to 255 bytes of UTF-8"))),
    }
}

/// Adds a tag to the thread's.
///
/// # Safety
/// `tag` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_tag_push(tag: *const c_char) -> c_int {
    call("coldpress_tag_push", || {
        if tag.is_null() {
            return Err(failure(status::INVALID, "tag_push: no tag"));
        }
        // SAFETY: not null, so a string by our caller's promise.
        if tags::push(unsafe { name("tag_push", tag) }?) {
            return Ok(());
        }
        Err(failure(status::OUT_OF_MEMORY, "tag_push: too many different stacks of tags"))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_tag_pop() -> c_int {
    call("coldpress_tag_pop", || {
        let popped = tags::pop();
        popped.then_some(()).ok_or_else(|| failure(status::INVALID, "tag_pop: there is no tag"))
    })
}

/// Fills the caller's structure.
///
/// # Safety
/// `stats` is null or as many writable bytes as its first word says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn coldpress_stats(stats: *mut statistics::Stats) -> c_int {
    // SAFETY: passed on from our caller.
    call("coldpress_stats", || unsafe { statistics::fill(stats) })
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_snapshot(fd: c_int) -> c_int {
    call("coldpress_snapshot", || snapshot::write(fd))
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_last_error() -> *const c_char {
    status::last()
}

#[unsafe(no_mangle)]
pub extern "C" fn coldpress_version() -> c_int {
    guarded("coldpress_version", 0, || {
        let part = |text: &str| text.parse::<c_int>().unwrap_or(0);
        part(env!("CARGO_PKG_VERSION_MAJOR")) * 10000
            + part(env!("CARGO_PKG_VERSION_MINOR")) * 100
            + part(env!("CARGO_PKG_VERSION_PATCH"))
    })
}
