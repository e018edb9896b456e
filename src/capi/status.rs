//! What the functions of the C interface return, and the text behind it.
//!
//! Owns: the codes of `coldpress.h` and the calling thread's last error. Never: decides anything.

use crate::driver::{CUresult, code};
use crate::residency::POISONED;
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};

/// Done.
pub const OK: c_int = 0;
/// An argument is not acceptable.
pub const INVALID: c_int = -1;
/// The pointer is not in managed memory.
pub const NOT_MANAGED: c_int = -2;
/// Not enough memory.
pub const OUT_OF_MEMORY: c_int = -3;
/// Pinned, so not evicted.
pub const PINNED: c_int = -4;
/// Has to stay on the device.
pub const KEPT: c_int = -5;
/// Not in time.
pub const BUSY: c_int = -6;
/// Eviction is off.
pub const OFF: c_int = -7;
/// Nothing is managed.
pub const ABSENT: c_int = -8;
/// CUDA is not initialised or no context is current.
pub const NO_CONTEXT: c_int = -9;
/// Writing failed.
pub const IO: c_int = -10;
/// Bytes are lost.
pub const LOST: c_int = -11;
/// Anything else.
pub const DRIVER: c_int = -12;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the codes above.
    pub code: c_int,
    /// For the reader of `coldpress_last_error`.
    pub text: String,
}

/// A failure with its text.
pub fn failure(code: c_int, text: impl Into<String>) -> Failure {
    Failure { code, text: text.into() }
}

/// What the engine or the driver said while `doing` something.
pub fn failed(doing: &str, result: CUresult) -> Failure {
    let (code, why) = match result {
        code::INVALID_VALUE => (INVALID, "the driver takes no such value"),
        code::OUT_OF_MEMORY => (OUT_OF_MEMORY, "out of memory"),
        code::NOT_READY => (BUSY, "the device did not finish in time"),
        code::NOT_INITIALIZED | code::DEINITIALIZED => (NO_CONTEXT, "CUDA is not initialised"),
        code::INVALID_CONTEXT | code::NO_DEVICE => (NO_CONTEXT, "no context is current"),
        POISONED => (LOST, "its bytes are lost"),
        other => return failure(DRIVER, format!("{doing}: the driver said {other}")),
    };
    failure(code, format!("{doing}: {why}"))
}

/// The number for the program; on failure the text is kept for it.
pub fn finish(result: Result<(), Failure>) -> c_int {
    match result {
        Ok(()) => OK,
        Err(failure) => {
            keep(&failure.text);
            failure.code
        }
    }
}

const ROOM: usize = 512;

thread_local! {
    /// A plain buffer: no destructor, so that calls from other destructors find it.
    static LAST: UnsafeCell<[u8; ROOM]> = const { UnsafeCell::new([0; ROOM]) };
}

fn keep(text: &str) {
    let bytes = &text.as_bytes()[..text.floor_char_boundary(ROOM - 1)];
    LAST.with(|last| {
        // SAFETY: only this thread reaches its buffer, and nothing else runs while it is copied.
        let last = unsafe { &mut *last.get() };
        last[..bytes.len()].copy_from_slice(bytes);
        last[bytes.len()] = 0;
    });
}

/// The text of the calling thread's last failure, ended by a zero byte.
pub fn last() -> *const c_char {
    LAST.with(|last| last.get().cast_const().cast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    const HEADER: &str = include_str!("../../include/coldpress.h");

    #[test]
    fn the_header_has_the_same_codes() {
        let codes = [
            ("OK", OK),
            ("E_INVALID", INVALID),
            ("E_NOT_MANAGED", NOT_MANAGED),
            ("E_OUT_OF_MEMORY", OUT_OF_MEMORY),
            ("E_PINNED", PINNED),
            ("E_KEPT", KEPT),
            ("E_BUSY", BUSY),
            ("E_OFF", OFF),
            ("E_ABSENT", ABSENT),
            ("E_NO_CONTEXT", NO_CONTEXT),
            ("E_IO", IO),
            ("E_LOST", LOST),
            ("E_DRIVER", DRIVER),
        ];
        for (name, value) in codes {
            let line = format!("    COLDPRESS_{name} = {value}");
            let found = HEADER.lines().any(|l| l.trim_end_matches(',') == line);
            assert!(found, "{line}");
        }
        let listed =
            HEADER.lines().filter(|l| l.starts_with("    COLDPRESS_E_") && l.contains(" = "));
        assert_eq!(listed.count() + 1, codes.len());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = || {
            // SAFETY: `last` always ends with a zero byte.
            unsafe { CStr::from_ptr(last()) }.to_str().expect("UTF-8").to_owned()
        };
        assert_eq!(text(), "");
        keep(&"\u{e9}".repeat(400));
        assert_eq!(text(), "\u{e9}".repeat(255));
        keep("short");
        assert_eq!(text(), "short");
    }
}
