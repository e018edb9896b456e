//! Where a kernel's parameters are: offsets and sizes, cached by handle.
//!
//! Entries are immutable and leaked; a lookup is one probe of a lock-free table and a compare.
//! Unloading a module empties the table, so a handle value that is used again is asked for again.

use crate::driver::{self, Handle, code};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// What is known of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of them.
    Known(&'static [Param]),
    /// The driver does not say (before 12.4, or an error).
    Unknown,
}

#[derive(Debug)]
struct Entry {
    handle: usize,
    layout: Layout,
}

const SIZE: usize = 4096;
const PROBES: usize = 8;

static TABLE: [AtomicPtr<Entry>; SIZE] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SIZE];
/// Raised by every unload: an answer of the driver from before is not stored after it.
static UNLOADS: AtomicUsize = AtomicUsize::new(0);
/// Handles that came from a library: CUkernel, not CUfunction.
static KERNELS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn home(handle: usize) -> usize {
    (handle >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - SIZE.trailing_zeros())
}

/// The parameters of `f`, a CUfunction or a CUkernel.
#[inline]
pub fn layout(f: Handle) -> Layout {
    let handle = f as usize;
    let mut at = home(handle);
    for _ in 0..PROBES {
        let entry = TABLE[at].load(Ordering::Acquire);
        // SAFETY: entries are leaked boxes, never freed or changed.
        match unsafe { entry.as_ref() } {
            Some(entry) if entry.handle == handle => return entry.layout,
            Some(_) => at = (at + 1) % SIZE,
            None => break,
        }
    }
    ask(f)
}

/// Asks the driver and remembers the answer.
#[cold]
fn ask(f: Handle) -> Layout {
    let unloads = UNLOADS.load(Ordering::Acquire);
    let layout = match params(f) {
        Some(params) => Layout::Known(params.leak()),
        None => return Layout::Unknown,
    };
    let entry = Box::leak(Box::new(Entry { handle: f as usize, layout }));
    let mut at = home(entry.handle);
    for _ in 1..PROBES {
        if TABLE[at].load(Ordering::Acquire).is_null() {
            break;
        }
        at = (at + 1) % SIZE;
    }
    // A crowded place gives up what was there: it is only a cache.
    TABLE[at].store(entry, Ordering::Release);
    if UNLOADS.load(Ordering::Acquire) != unloads {
        TABLE[at].store(std::ptr::null_mut(), Ordering::Release);
    }
    layout
}

fn params(f: Handle) -> Option<Vec<Param>> {
    let api = driver::api()?;
    let kernel = KERNELS.lock().contains(&(f as usize));
    let get = if kernel { api.cuKernelGetParamInfo } else { api.cuFuncGetParamInfo };
    let mut out = Vec::new();
    loop {
        let (mut offset, mut size) = (0usize, 0usize);
        // SAFETY: both pointers are to live locals; `f` is the program's own handle.
        match unsafe { get(f, out.len(), &mut offset, &mut size) } {
            code::SUCCESS => out.push(Param { offset: offset as u32, size: size as u32 }),
            // One past the last parameter.
            code::INVALID_VALUE => return Some(out),
            _ => return None,
        }
        if out.len() > 4096 {
            return None;
        }
    }
}

/// Remembers that a handle is a CUkernel.
pub fn note_kernel(kernel: Handle) {
    let mut kernels = KERNELS.lock();
    if !kernel.is_null() && !kernels.contains(&(kernel as usize)) {
        kernels.push(kernel as usize);
    }
}

/// A module or library is about to be unloaded: handles may mean something else soon.
pub fn unloading() {
    UNLOADS.fetch_add(1, Ordering::AcqRel);
    for entry in &TABLE {
        entry.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// A library has gone: its kernels are no kernels any more.
pub fn forget_kernels(gone: impl Fn(Handle) -> bool) {
    KERNELS.lock().retain(|&k| !gone(k as Handle));
}
