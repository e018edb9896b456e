//! Corruption on request: copies that arrive with bytes flipped, and bytes flipped in pinned host
//! memory that was registered.

use crate::guard::Copy;
use crate::memory;
use parking_lot::RwLock;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What happens to one copy: so many bytes in a row change, from this one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    bytes: u64,
    at: u64,
}

#[derive(Debug)]
struct Rule {
    name: String,
    /// Which call; `None` for every one.
    nth: Option<u64>,
    bytes: u64,
    /// The first of them; `None` for one that differs from copy to copy.
    at: Option<u64>,
    seen: AtomicU64,
}

static RULES: RwLock<Vec<Rule>> = RwLock::new(Vec::new());
static ANY: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CURRENT: Cell<Option<Flip>> = const { Cell::new(None) };
}

/// Adds the rules `NAME:N=K,..` or `NAME:N=K@AT,..`; `None` removes all. Says whether it was
/// understood.
fn add(spec: Option<&str>) -> bool {
    let Some(spec) = spec else {
        RULES.write().clear();
        ANY.store(false, Ordering::Release);
        return true;
    };
    let parse = |entry: &str| {
        let (name, rest) = entry.trim().split_once(':')?;
        let (nth, rest) = rest.split_once('=')?;
        let nth = if nth == "*" { None } else { Some(nth.parse().ok()?) };
        let (bytes, at) = match rest.split_once('@') {
            Some((bytes, at)) => (bytes, Some(at.parse().ok()?)),
            None => (rest, None),
        };
        let bytes = bytes.parse().ok()?;
        Some(Rule { name: name.to_owned(), nth, bytes, at, seen: AtomicU64::new(0) })
    };
    let rules: Option<Vec<Rule>> = spec.split(',').filter(|e| !e.is_empty()).map(parse).collect();
    let Some(rules) = rules else { return false };
    RULES.write().extend(rules);
    ANY.store(true, Ordering::Release);
    true
}

/// A call of this name begins on this thread: remembers what its copy is to suffer.
pub fn entering(name: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(spec) = std::env::var("SIMCUDA_FLIP")
            && !add(Some(&spec))
        {
            eprintln!("simcuda: SIMCUDA_FLIP must be NAME:N=K,..; ignored");
        }
    });
    let mut flip = None;
    if !ANY.load(Ordering::Acquire) {
        CURRENT.set(flip);
        return;
    }
    for rule in RULES.read().iter().filter(|r| r.name == name) {
        let n = rule.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if rule.nth.is_none_or(|nth| nth == n) {
            flip = Some(Flip { bytes: rule.bytes, at: rule.at.unwrap_or_else(anything) });
        }
    }
    CURRENT.set(flip);
}

/// What the copy of the current call is to suffer.
pub fn current() -> Option<Flip> {
    CURRENT.take()
}

/// A number unlike those before it.
fn anything() -> u64 {
    let mut x = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ x >> 32
}

/// Changes one byte.
///
/// # Safety
/// It can be read and written.
unsafe fn change(at: u64) {
    let byte = at as *mut u8;
    let mask = (anything() as u8).max(1);
    // SAFETY: as promised.
    unsafe { byte.write(byte.read() ^ mask) };
}

impl Flip {
    /// Changes what a copy has just written.
    pub fn apply(self, copy: &Copy) {
        let all = copy.bytes();
        for i in 0..self.bytes.min(all) {
            let i = (self.at.wrapping_add(i) % all) as usize;
            let (row, x) = (i / copy.width, i % copy.width);
            let (slice, row) = (row / copy.height, row % copy.height);
            let offset = slice * copy.dst_slice + row * copy.dst_pitch + x;
            // SAFETY: a byte of the destination, to which the copy has just written.
            unsafe { change(copy.dst + offset as u64) };
        }
    }
}

/// Adds rules at run time; null removes all. 1 if understood.
///
/// # Safety
/// `spec` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simcuda_flip(spec: *const c_char) -> i32 {
    if spec.is_null() {
        return i32::from(add(None));
    }
    // SAFETY: as promised.
    let spec = unsafe { CStr::from_ptr(spec) }.to_string_lossy();
    i32::from(add(Some(&spec)))
}

/// Changes `bytes` bytes in a row of the host memory that is registered, from byte `at` on where
/// all of it, in order of address, is counted as one piece; how many were changed.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_flip_host(at: u64, bytes: u64) -> u64 {
    let mut left = bytes;
    let mut skip = at;
    for (start, len) in memory::registered() {
        let len = len as u64;
        if skip >= len {
            skip -= len;
            continue;
        }
        let n = left.min(len - skip);
        for i in 0..n {
            // SAFETY: whoever registered the memory keeps it until it is unregistered, and the
            // test that calls this runs nothing beside it.
            unsafe { change(start as u64 + skip + i) };
        }
        left -= n;
        skip = 0;
    }
    bytes - left
}

/// Bytes of host memory that are registered.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_registered() -> u64 {
    memory::registered().iter().map(|&(_, len)| len as u64).sum()
}
