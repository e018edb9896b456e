//! Where a kernel's parameters are: offsets and sizes, cached by handle.
//!
//! Entries are immutable and never freed, since a look-up may be reading one at any time; equal
//! ones exist once, so a program that loads and unloads the same kernels for ever does not grow.
//! A look-up is one probe of a lock-free table and a compare. Unloading a module empties the
//! table, so a handle value that is used again is asked for again.

use crate::driver::{self, Handle, code};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

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
    params: &'static [Param],
}

const SIZE: usize = 4096;
const PROBES: usize = 8;

static TABLE: [AtomicPtr<Entry>; SIZE] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SIZE];
/// Raised by every unload: an answer of the driver from before is not stored after it.
static UNLOADS: AtomicUsize = AtomicUsize::new(0);
/// Every entry there has been, by handle.
static ENTRIES: Mutex<BTreeMap<usize, Vec<&'static Entry>>> = Mutex::new(BTreeMap::new());
/// Handles that came from a library, and which: CUkernel, not CUfunction.
static KERNELS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
static UNKNOWN_SEEN: AtomicBool = AtomicBool::new(false);

fn home(handle: usize) -> usize {
    (handle >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - SIZE.trailing_zeros())
}

/// The parameters of `f`, a CUfunction or a CUkernel.
#[inline]
pub fn layout(f: Handle) -> Layout {
    match cached(f as usize) {
        Some(params) => Layout::Known(params),
        None => ask(f),
    }
}

#[inline]
fn cached(handle: usize) -> Option<&'static [Param]> {
    let mut at = home(handle);
    for _ in 0..PROBES {
        // SAFETY: entries are leaked boxes, never freed or changed.
        let entry = unsafe { TABLE[at].load(Ordering::Acquire).as_ref() }?;
        if entry.handle == handle {
            return Some(entry.params);
        }
        at = (at + 1) % SIZE;
    }
    None
}

/// Asks the driver and remembers the answer.
#[cold]
fn ask(f: Handle) -> Layout {
    let unloads = UNLOADS.load(Ordering::SeqCst);
    let Some(params) = params(f) else {
        UNKNOWN_SEEN.store(true, Ordering::Release);
        return Layout::Unknown;
    };
    let entry = entry(f as usize, &params);
    publish(entry, unloads);
    Layout::Known(entry.params)
}

/// The entry with this content, made if it is the first.
fn entry(handle: usize, params: &[Param]) -> &'static Entry {
    let mut entries = ENTRIES.lock();
    let same = entries.entry(handle).or_default();
    if let Some(known) = same.iter().find(|e| e.params == params) {
        return known;
    }
    let fresh: &'static Entry =
        Box::leak(Box::new(Entry { handle, params: params.to_vec().leak() }));
    same.push(fresh);
    fresh
}

/// Puts `entry` in the table, unless something was unloaded since `unloads` was read.
fn publish(entry: &'static Entry, unloads: usize) {
    let mut at = home(entry.handle);
    for _ in 1..PROBES {
        if TABLE[at].load(Ordering::Acquire).is_null() {
            break;
        }
        at = (at + 1) % SIZE;
    }
    // A crowded place gives up what was there: it is only a cache.
    TABLE[at].store(std::ptr::from_ref(entry).cast_mut(), Ordering::SeqCst);
    // Sequentially consistent, as in `unloading`: one of the two sees the other.
    if UNLOADS.load(Ordering::SeqCst) != unloads {
        TABLE[at].store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

fn params(f: Handle) -> Option<Vec<Param>> {
    let api = driver::api()?;
    let kernel = KERNELS.lock().contains_key(&(f as usize));
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

/// Remembers that a handle is a CUkernel of `library`.
pub fn note_kernel(kernel: Handle, library: Handle) {
    if !kernel.is_null() {
        KERNELS.lock().insert(kernel as usize, library as usize);
    }
}

/// A module or library is about to be unloaded: handles may mean something else soon.
pub fn unloading() {
    UNLOADS.fetch_add(1, Ordering::SeqCst);
    for entry in &TABLE {
        entry.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

/// A library is about to be unloaded: its kernels are no kernels any more.
pub fn library_unloading(library: Handle) {
    KERNELS.lock().retain(|_, &mut of| of != library as usize);
    unloading();
}

/// True once a kernel of unknown parameters was met: then uses have passed unstamped, and a freed
/// range may be in use by any stream.
pub fn unknown_seen() -> bool {
    UNKNOWN_SEEN.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(handle: usize, size: u32) -> usize {
        let unloads = UNLOADS.load(Ordering::SeqCst);
        publish(entry(handle, &[Param { offset: 0, size }]), unloads);
        unloads
    }

    /// One test, since the tables are the process's own.
    #[test]
    fn an_unload_forgets_and_equal_entries_exist_once() {
        let handle = 0x4000_0010;
        assert_eq!(cached(handle), None);
        let before = put(handle, 8);
        assert_eq!(cached(handle), Some(&[Param { offset: 0, size: 8 }][..]));
        let first = cached(handle).map(<[Param]>::as_ptr);
        unloading();
        assert_eq!(cached(handle), None);
        put(handle, 4);
        assert_eq!(cached(handle), Some(&[Param { offset: 0, size: 4 }][..]), "the handle again");
        unloading();
        publish(entry(handle, &[Param { offset: 0, size: 8 }]), before);
        assert_eq!(cached(handle), None, "an answer from before an unload is not kept");
        put(handle, 8);
        assert_eq!(cached(handle).map(<[Param]>::as_ptr), first, "made once");

        // Readers, writers and unloads at once: whatever is found belongs to the handle asked for.
        std::thread::scope(|s| {
            for t in 0..2u32 {
                s.spawn(move || {
                    for n in 0..20_000u32 {
                        put(0x4100_0000 + (n % 6000) as usize * 16, 16 + n % 6000);
                        if t == 0 && n % 1000 == 0 {
                            unloading();
                        }
                    }
                });
            }
            s.spawn(|| {
                for n in 0..100_000u32 {
                    if let Some(params) = cached(0x4100_0000 + (n % 6000) as usize * 16) {
                        assert_eq!(params[0].size, 16 + n % 6000);
                    }
                }
            });
        });

        note_kernel(0x4200_0000 as Handle, 1 as Handle);
        note_kernel(0x4200_0010 as Handle, 2 as Handle);
        library_unloading(1 as Handle);
        assert!(!KERNELS.lock().contains_key(&0x4200_0000));
        assert!(KERNELS.lock().contains_key(&0x4200_0010));
    }
}
