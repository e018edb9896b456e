//! Memory by file descriptor, within one process.
//!
//! The file holds the memory's number and its process; it does not keep the memory alive, and
//! another process cannot use it.

use crate::abi::{Outcome, code};
use crate::space::Physical;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

const MAGIC: [u8; 8] = *b"simcuda1";

/// Whatever was exported and still exists.
static EXPORTED: Mutex<Vec<Weak<Physical>>> = Mutex::new(Vec::new());

/// A new descriptor for memory; the caller's to close.
pub fn export(physical: &Arc<Physical>) -> Outcome<i32> {
    // SAFETY: a new anonymous file, owned by the value made of it.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"simcuda-shared".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(code::OUT_OF_MEMORY);
        }
        File::from_raw_fd(fd)
    };
    let mut text = MAGIC.to_vec();
    text.extend(u64::from(std::process::id()).to_le_bytes());
    text.extend(physical.id.to_le_bytes());
    file.write_all(&text).map_err(|_| code::OUT_OF_MEMORY)?;
    let mut exported = EXPORTED.lock();
    exported.retain(|e| e.strong_count() > 0);
    exported.push(Arc::downgrade(physical));
    Ok(file.into_raw_fd())
}

/// The memory a descriptor stands for.
pub fn import(fd: i32) -> Outcome<Arc<Physical>> {
    let mut text = [0u8; 24];
    if fd < 0 {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: the descriptor stays the program's: the value is never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    file.read_exact_at(&mut text, 0).map_err(|_| code::INVALID_VALUE)?;
    let word = |at: usize| text[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
    if text[..8] != MAGIC {
        return Err(code::INVALID_VALUE);
    }
    if word(8) != u64::from(std::process::id()) {
        return Err(code::NOT_SUPPORTED);
    }
    let exported = EXPORTED.lock();
    let found = exported.iter().filter_map(Weak::upgrade).find(|p| p.id == word(16));
    found.ok_or(code::INVALID_VALUE)
}
