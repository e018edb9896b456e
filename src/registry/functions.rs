//! Where a kernel's parameters are: offsets and sizes, cached by handle.
//!
//! Entries are immutable and never freed, since a look-up may be reading one at any time; equal
//! ones exist once, so a program that loads and unloads the same kernels for ever does not grow.
//! A look-up is one probe of a lock-free table and a compare. Unloading a module empties the
//! table, so a handle value that is used again is asked for again.

use crate::driver::{self, Handle, code};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Where in the parameters an address can stand: byte `at` of parameter `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Probe {
    /// Which parameter.
    pub index: u16,
    /// Byte offset in it, a multiple of 4.
    pub at: u16,
}

/// All places of a kernel's parameters where an address can stand: 8 bytes, at a stride of 4.
/// Parameters are 32764 bytes together at most and their number is smaller, so both parts of a
/// probe fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// So many parameters from the first on are single words of 8 bytes.
    pub plain: usize,
    /// The places in all others.
    pub rest: Vec<Probe>,
}

impl Places {
    fn of(params: &[Param]) -> Places {
        let plain = params.iter().take_while(|p| p.size == 8).count();
        let of = |(index, param): (usize, &Param)| {
            let last = i64::from(param.size) - 8;
            let places = (0..=last).step_by(4);
            places.map(move |at| Probe { index: index as u16, at: at as u16 })
        };
        Places { plain, rest: params.iter().enumerate().skip(plain).flat_map(of).collect() }
    }

    /// True where no address can be.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.plain == 0 && self.rest.is_empty()
    }

    /// The words there.
    ///
    /// # Safety
    /// `values` holds one valid pointer per parameter.
    pub unsafe fn words(&self, values: *const *const c_void) -> Vec<u64> {
        let plain = (0..self.plain).map(|i| Probe { index: i as u16, at: 0 });
        let all = plain.chain(self.rest.iter().copied());
        // SAFETY: the caller's promise; a probe's eight bytes lie inside its parameter.
        all.map(|probe| unsafe { probe.word(values) }).collect()
    }
}

impl Probe {
    /// The word there.
    ///
    /// # Safety
    /// `values` holds one valid pointer per parameter of the kernel that the probe belongs to.
    #[inline(always)]
    pub unsafe fn word(self, values: *const *const c_void) -> u64 {
        // SAFETY: the caller's promise; the eight bytes lie inside the parameter.
        unsafe {
            let value = (*values.add(usize::from(self.index))).cast::<u8>();
            value.add(usize::from(self.at)).cast::<u64>().read_unaligned()
        }
    }
}

/// What is known of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The places where they can hold an address.
    Known(&'static Places),
    /// The driver does not say (before 12.4, or an error).
    Unknown,
}

#[derive(Debug)]
struct Entry {
    handle: usize,
    params: Vec<Param>,
    places: Places,
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
        Some(places) => Layout::Known(places),
        None => ask(f),
    }
}

#[inline]
fn cached(handle: usize) -> Option<&'static Places> {
    let mut at = home(handle);
    for _ in 0..PROBES {
        // SAFETY: entries are leaked boxes, never freed or changed.
        let entry = unsafe { TABLE[at].load(Ordering::Acquire).as_ref() }?;
        if entry.handle == handle {
            return Some(&entry.places);
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
    Layout::Known(&entry.places)
}

/// The entry with this content, made if it is the first.
fn entry(handle: usize, params: &[Param]) -> &'static Entry {
    let mut entries = ENTRIES.lock();
    let same = entries.entry(handle).or_default();
    if let Some(known) = same.iter().find(|e| e.params == params) {
        return known;
    }
    let fresh: &'static Entry =
        Box::leak(Box::new(Entry { handle, params: params.to_vec(), places: Places::of(params) }));
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

/// A library is about to be unloaded: its kernels, which are none any more.
pub fn library_unloading(library: Handle) -> Vec<Handle> {
    let mut kernels = KERNELS.lock();
    let gone = kernels.extract_if(.., |_, &mut of| of == library as usize);
    let gone = gone.map(|(kernel, _)| kernel as Handle).collect();
    drop(kernels);
    unloading();
    gone
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

    #[test]
    fn places_are_every_place_for_an_address() {
        let of = |sizes: &[u32]| {
            let params: Vec<Param> = sizes.iter().map(|&size| Param { offset: 0, size }).collect();
            Places::of(&params)
        };
        let at = |index, at| Probe { index, at };
        let got = of(&[8, 8, 4, 0, 20, 8, 1]);
        assert_eq!(got.plain, 2);
        assert_eq!(got.rest, [at(4, 0), at(4, 4), at(4, 8), at(4, 12), at(5, 0)]);
        assert!(of(&[4, 7, 0]).is_empty() && !of(&[8]).is_empty() && !of(&[12]).is_empty());

        let (a, b, c) = (7u64, [1u32, 2, 3], 9u32);
        let values = [(&raw const a).cast(), (&raw const b).cast(), (&raw const c).cast()];
        // SAFETY: three live values of these sizes.
        let words = unsafe { of(&[8, 12, 4]).words(values.as_ptr()) };
        assert_eq!(words, [7, 1 | 2 << 32, 2 | 3 << 32]);
    }

    /// One test, since the tables are the process's own.
    #[test]
    fn an_unload_forgets_and_equal_entries_exist_once() {
        let handle = 0x4000_0010;
        assert_eq!(cached(handle), None);
        let before = put(handle, 8);
        assert_eq!(cached(handle).map(|p| p.plain), Some(1));
        let first = cached(handle).map(std::ptr::from_ref);
        unloading();
        assert_eq!(cached(handle), None);
        put(handle, 4);
        assert_eq!(cached(handle).map(|p| p.plain), Some(0), "the handle again");
        unloading();
        publish(entry(handle, &[Param { offset: 0, size: 8 }]), before);
        assert_eq!(cached(handle), None, "an answer from before an unload is not kept");
        put(handle, 8);
        assert_eq!(cached(handle).map(std::ptr::from_ref), first, "made once");

        // Readers, writers and unloads at once: whatever is found belongs to the handle asked for.
        std::thread::scope(|s| {
            for t in 0..2u32 {
                s.spawn(move || {
                    for n in 0..10_000u32 {
                        put(0x4100_0000 + (n % 500) as usize * 16, 8 + n % 500 * 4);
                        if t == 0 && n % 1000 == 0 {
                            unloading();
                        }
                    }
                });
            }
            s.spawn(|| {
                for n in 0..100_000u32 {
                    if let Some(places) = cached(0x4100_0000 + (n % 500) as usize * 16) {
                        assert_eq!((places.plain + places.rest.len()) as u32, 1 + n % 500);
                    }
                }
            });
        });

        note_kernel(0x4200_0000 as Handle, 1 as Handle);
        note_kernel(0x4200_0010 as Handle, 2 as Handle);
        assert_eq!(library_unloading(1 as Handle), [0x4200_0000 as Handle]);
        assert!(!KERNELS.lock().contains_key(&0x4200_0000));
        assert!(KERNELS.lock().contains_key(&0x4200_0010));
    }
}
