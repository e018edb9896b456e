//! cuGetProcAddress: which symbol a name means at a version.
//!
//! The rule: the i-th listed version of a name is its i-th symbol; the newest one not above the
//! requested version is meant. With the per-thread flag the newest per-thread variant not above
//! it, where there is one.

use crate::abi::{Outcome, code};
use crate::settings;
use std::ffi::{CString, c_void};
use std::sync::OnceLock;

/// A name and its symbols by version.
#[derive(Debug)]
pub struct Name {
    pub base: &'static str,
    pub plain: &'static [(i32, &'static str)],
    pub per_thread: &'static [(i32, &'static str)],
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// The flag for per-thread default streams.
pub const PER_THREAD: u64 = 2;
const LEGACY: u64 = 1;

/// The symbol's address, or NOT_FOUND; INVALID_VALUE for impossible flags.
pub fn find(name: &str, version: i32, flags: u64) -> Outcome<usize> {
    if flags > PER_THREAD || flags == (LEGACY | PER_THREAD) {
        return Err(code::INVALID_VALUE);
    }
    let settings = settings::get();
    if settings.missing.iter().any(|m| m == name) {
        return Err(code::NOT_FOUND);
    }
    let known = TABLE.iter().find(|n| n.base == name).ok_or(code::NOT_FOUND)?;
    let asked = version;
    // What is newer than the driver does not exist yet; asking for more than it knows is fine.
    let version = version.min(settings.driver_version);
    let newest = |list: &'static [(i32, &'static str)]| {
        list.iter().rev().find(|(v, _)| *v <= version).map(|(_, s)| *s)
    };
    let plain = newest(known.plain).ok_or(code::NOT_FOUND)?;
    let symbol =
        if flags == PER_THREAD { newest(known.per_thread).unwrap_or(plain) } else { plain };
    let at = own(symbol)?;
    let newer = settings.newer.iter().find(|(n, _)| n == name);
    match newer {
        Some((_, from)) if asked >= *from => jump_to(at),
        _ => Ok(at),
    }
}

/// One of this library's exports.
fn own(symbol: &str) -> Outcome<usize> {
    let name = CString::new(symbol).map_err(|_| code::INVALID_VALUE)?;
    // SAFETY: a live handle and a C string.
    let at = unsafe { libc::dlsym(me() as *mut c_void, name.as_ptr()) } as usize;
    if at == 0 { Err(code::NOT_FOUND) } else { Ok(at) }
}

/// A handle to this very file, whatever else is loaded under its SONAME.
fn me() -> usize {
    static ME: OnceLock<usize> = OnceLock::new();
    *ME.get_or_init(|| {
        // SAFETY: dladdr only looks at the address; the file is loaded already, so this adds a
        // reference to it.
        unsafe {
            let mut info = std::mem::zeroed::<libc::Dl_info>();
            libc::dladdr(find as *const c_void, &mut info);
            libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD) as usize
        }
    })
}

/// Another address that does the same: what a variant newer than the table looks like.
fn jump_to(at: usize) -> Outcome<usize> {
    static MADE: parking_lot::Mutex<Vec<(usize, usize)>> = parking_lot::Mutex::new(Vec::new());
    let mut made = MADE.lock();
    if let Some(&(_, thunk)) = made.iter().find(|(a, _)| *a == at) {
        return Ok(thunk);
    }
    // movabs rax, at; jmp rax
    let mut bytes = vec![0x48, 0xB8];
    bytes.extend(at.to_le_bytes());
    bytes.extend([0xFF, 0xE0]);
    // SAFETY: a fresh page, written before it becomes executable, never written again.
    unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return Err(code::OUT_OF_MEMORY);
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast(), bytes.len());
        libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC);
        made.push((at, page as usize));
        Ok(page as usize)
    }
}
