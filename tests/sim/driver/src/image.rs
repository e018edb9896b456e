//! Kernel images: shared objects with a note that names every kernel and its parameters.
//!
//! The note stands in the section `.note.coldpress.kernels`, name "coldpress", type 1; payload:
//! u32 count, then per kernel u32 length, name, u32 parameters, then (u32 offset, u32 size) each.
//! No note, no load. The library's own fatbin is the one image of another kind (`fatbin.rs`).

use crate::abi::{Outcome, code};
use crate::fatbin;
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// How a kernel is called.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// With a launch record (`work.rs`).
    Launch(unsafe extern "C" fn(*mut c_void)),
    /// With a pointer to each parameter; it does the work of any grid.
    Params(unsafe extern "C" fn(*mut *mut c_void)),
}

/// One kernel of an image.
#[derive(Debug)]
pub struct KernelInfo {
    pub name: CString,
    pub params: Vec<(u32, u32)>,
    pub entry: Entry,
}

/// A library of the loader's.
#[derive(Debug)]
struct Opened {
    dl: usize,
    /// The file it was loaded from: the loader knows libraries by name, and the name is this
    /// number, so nobody else may get it while the library is loaded.
    fd: i32,
}

/// A loaded image.
#[derive(Debug)]
pub struct Image {
    #[allow(dead_code, reason = "keeps the library open")]
    library: Option<Opened>,
    pub kernels: Vec<KernelInfo>,
    /// Exported data symbols: name, address, bytes.
    globals: Vec<(String, u64, u64)>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let name = name_of(self.fd);
        // SAFETY: opened in `load`; the last reference to anything in it is going. A library that
        // the loader keeps all the same keeps its name too.
        unsafe {
            libc::dlclose(self.dl as *mut c_void);
            let kept = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if kept.is_null() {
                libc::close(self.fd);
            } else {
                libc::dlclose(kept);
            }
        }
    }
}

/// The length of an image, which is found in its headers, as the driver has to.
///
/// # Safety
/// `data` points to the first 64 bytes of a whole image.
pub unsafe fn length(data: *const u8) -> Outcome<usize> {
    // SAFETY: as the caller promises.
    let header = unsafe { std::slice::from_raw_parts(data, 64) };
    if fatbin::is_one(header) {
        return Ok(fatbin::length(header));
    }
    if !header.starts_with(b"\x7fELF") {
        return Err(code::INVALID_IMAGE);
    }
    let table = half(header, 58)? * half(header, 60)?;
    let sections = word(header, 40)?.checked_add(table);
    sections.map(|n| n as usize).ok_or(code::INVALID_IMAGE)
}

/// Loads an image from memory.
///
/// # Safety
/// `data` points to a whole image.
pub unsafe fn load(data: *const u8) -> Outcome<Arc<Image>> {
    if data.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: the caller vouches for a whole image, which is as long as its headers say.
    let bytes = unsafe { std::slice::from_raw_parts(data, length(data)?) };
    if fatbin::is_one(bytes) {
        let kernels = fatbin::kernels(bytes)?;
        return Ok(Arc::new(Image { library: None, kernels, globals: Vec::new() }));
    }
    let note = section(bytes, ".note.coldpress.kernels")?;
    let listed = parse_note(&note.bytes)?;
    let library = open(bytes)?;
    let symbol = |name: &CString| {
        // SAFETY: a live library handle and a C string.
        unsafe { libc::dlsym(library.dl as *mut c_void, name.as_ptr()) }
    };
    let mut kernels = Vec::new();
    for (name, params) in listed {
        let at = symbol(&name);
        if at.is_null() {
            return Err(code::INVALID_IMAGE);
        }
        // SAFETY: the note names this symbol as a kernel's entry.
        let entry =
            unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(at) };
        kernels.push(KernelInfo { name, params, entry: Entry::Launch(entry) });
    }
    let mut globals = Vec::new();
    for (name, size) in data_symbols(bytes)? {
        let Ok(c_name) = CString::new(name.clone()) else { continue };
        let at = symbol(&c_name) as u64;
        if at != 0 {
            globals.push((name, at, size));
        }
    }
    Ok(Arc::new(Image { library: Some(library), kernels, globals }))
}

fn name_of(fd: i32) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

/// A library of its own for every load: another name, another inode.
fn open(bytes: &[u8]) -> Outcome<Opened> {
    // SAFETY: a new anonymous file is written and opened through its own name.
    unsafe {
        let fd = libc::memfd_create(c"simcuda-image".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(code::OUT_OF_MEMORY);
        }
        let mut at = 0;
        while at < bytes.len() {
            let n = libc::write(fd, bytes[at..].as_ptr().cast(), bytes.len() - at);
            if n <= 0 {
                libc::close(fd);
                return Err(code::OUT_OF_MEMORY);
            }
            at += n as usize;
        }
        let dl = libc::dlopen(name_of(fd).as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if dl.is_null() {
            libc::close(fd);
            return Err(code::INVALID_IMAGE);
        }
        Ok(Opened { dl: dl as usize, fd })
    }
}

fn half(bytes: &[u8], at: usize) -> Outcome<u64> {
    let raw = bytes.get(at..at.saturating_add(2)).and_then(|b| b.try_into().ok());
    raw.map(|b| u64::from(u16::from_le_bytes(b))).ok_or(code::INVALID_IMAGE)
}

fn int(bytes: &[u8], at: usize) -> Outcome<u32> {
    let raw = bytes.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok());
    raw.map(u32::from_le_bytes).ok_or(code::INVALID_IMAGE)
}

fn word(bytes: &[u8], at: usize) -> Outcome<u64> {
    let raw = bytes.get(at..at.saturating_add(8)).and_then(|b| b.try_into().ok());
    raw.map(u64::from_le_bytes).ok_or(code::INVALID_IMAGE)
}

struct Section {
    bytes: Vec<u8>,
    link: u64,
}

fn section_at(elf: &[u8], i: u64) -> Outcome<(u32, u32, Section)> {
    let at = word(elf, 40)?.checked_add(i * half(elf, 58)?).ok_or(code::INVALID_IMAGE)? as usize;
    let (name, kind) = (int(elf, at)?, int(elf, at + 4)?);
    let (offset, size) = (word(elf, at + 24)? as usize, word(elf, at + 32)? as usize);
    const NOBITS: u32 = 8;
    let bytes = if kind == NOBITS {
        Vec::new()
    } else {
        let end = offset.checked_add(size).ok_or(code::INVALID_IMAGE)?;
        elf.get(offset..end).ok_or(code::INVALID_IMAGE)?.to_vec()
    };
    Ok((name, kind, Section { bytes, link: u64::from(int(elf, at + 40)?) }))
}

fn section(elf: &[u8], wanted: &str) -> Outcome<Section> {
    let names = section_at(elf, half(elf, 62)?)?.2.bytes;
    for i in 0..half(elf, 60)? {
        let (name, _, section) = section_at(elf, i)?;
        if text(&names, name as usize) == wanted {
            return Ok(section);
        }
    }
    Err(code::INVALID_IMAGE)
}

fn text(table: &[u8], at: usize) -> String {
    let rest = table.get(at..).unwrap_or_default();
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

fn data_symbols(elf: &[u8]) -> Outcome<Vec<(String, u64)>> {
    const DYNSYM: u32 = 11;
    const OBJECT: u8 = 1;
    let mut out = Vec::new();
    for i in 0..half(elf, 60)? {
        let (_, kind, symbols) = section_at(elf, i)?;
        if kind != DYNSYM {
            continue;
        }
        let names = section_at(elf, symbols.link)?.2.bytes;
        for symbol in symbols.bytes.chunks_exact(24) {
            if symbol[4] & 15 == OBJECT && half(symbol, 6)? != 0 {
                out.push((text(&names, int(symbol, 0)? as usize), word(symbol, 16)?));
            }
        }
    }
    Ok(out)
}

/// Names and parameters.
type Listed = Vec<(CString, Vec<(u32, u32)>)>;

fn parse_note(note: &[u8]) -> Outcome<Listed> {
    let (name_len, len, kind) = (int(note, 0)?, int(note, 4)?, int(note, 8)?);
    let start = 12 + (name_len as usize).next_multiple_of(4);
    let name = note.get(12..12 + name_len as usize).ok_or(code::INVALID_IMAGE)?;
    if kind != 1 || !name.starts_with(b"coldpress") {
        return Err(code::INVALID_IMAGE);
    }
    let body = note.get(start..start + len as usize).ok_or(code::INVALID_IMAGE)?;
    let count = int(body, 0)?;
    let mut out = Vec::new();
    let mut at = 4;
    for _ in 0..count {
        let len = int(body, at)? as usize;
        at += 4;
        let name = body.get(at..at + len).ok_or(code::INVALID_IMAGE)?;
        at += len;
        let params = int(body, at)?;
        at += 4;
        let mut list = Vec::new();
        for _ in 0..params {
            list.push((int(body, at)?, int(body, at + 4)?));
            at += 8;
        }
        let name = CString::new(name).map_err(|_| code::INVALID_IMAGE)?;
        out.push((name, list));
    }
    Ok(out)
}

impl Image {
    /// A global's address and size.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.iter().find(|(n, ..)| n == name).map(|&(_, at, size)| (at, size))
    }

    /// The global an address lies in.
    pub fn global_containing(&self, at: u64) -> Option<(u64, u64)> {
        let found = self.globals.iter().find(|(_, start, len)| at.wrapping_sub(*start) < *len);
        found.map(|&(_, start, len)| (start, len))
    }
}
