//! `coldpress_snapshot`: the live allocations as one line of JSON.

use super::status::{self, Failure, failure};
use super::tags;
use crate::residency::query;
use crate::residency::state::State;
use crate::stats;
use serde::Serialize;
use std::ffi::c_int;

#[derive(Serialize)]
struct Snapshot {
    schema: &'static str,
    version: u32,
    pid: u32,
    time_ns: u64,
    allocations: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    address: u64,
    bytes: u64,
    device: u8,
    id: u64,
    block: u32,
    state: &'static str,
    pins: u32,
    tags: Vec<String>,
}

fn word(state: State) -> &'static str {
    match state {
        State::Resident => "resident",
        State::Spilled => "spilled",
        State::Compressed => "compressed",
        State::Poisoned => "lost",
        _ => "moving",
    }
}

/// Writes the list to `fd`.
pub fn write(fd: c_int) -> Result<(), Failure> {
    let mut allocations = Vec::new();
    query::each(|found, state| {
        allocations.push(Entry {
            address: found.base,
            bytes: found.allocation.size,
            device: found.device,
            id: found.allocation.id,
            block: found.block,
            state: word(state),
            pins: found.allocation.pins,
            tags: tags::names(found.allocation.tag),
        });
    });
    let snapshot = Snapshot {
        schema: "coldpress.snapshot",
        version: 1,
        pid: std::process::id(),
        time_ns: stats::now_ns(),
        allocations,
    };
    let mut text = serde_json::to_vec(&snapshot)
        .map_err(|e| failure(status::DRIVER, format!("snapshot: {e}")))?;
    text.push(b'\n');
    write_all(fd, &text).map_err(|e| failure(status::IO, format!("snapshot: {e}")))
}

fn write_all(fd: c_int, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: a live slice of that length; the descriptor is the caller's.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(_) => {
                let e = std::io::Error::last_os_error();
                if e.kind() != std::io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
    }
    Ok(())
}
