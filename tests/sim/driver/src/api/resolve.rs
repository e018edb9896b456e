//! cuGetProcAddress in both forms.

use super::out;
use crate::abi::{Outcome, code};
use crate::entry::api;
use crate::resolve;
use std::ffi::{CStr, c_char, c_void};

const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;
const TOO_OLD: u32 = 2;

fn answer(
    name: *const c_char,
    to: *mut *mut c_void,
    version: i32,
    flags: u64,
    status: *mut u32,
) -> Outcome {
    if name.is_null() || to.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a C string by the ABI.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let (at, said, result) = match resolve::find(&name, version, flags) {
        Ok(at) => (at, FOUND, Ok(())),
        Err(e) => {
            let known = resolve::TABLE.iter().any(|n| n.base == name);
            (0, if known { TOO_OLD } else { NOT_FOUND }, Err(e))
        }
    };
    out(to, at as *mut c_void)?;
    if !status.is_null() {
        out(status, said)?;
        // With a place to say it, a missing symbol is no error of the call.
        if result == Err(code::NOT_FOUND) {
            return Ok(());
        }
    }
    result
}

api! {
    fn cuGetProcAddress(name: *const c_char, to: *mut *mut c_void, version: i32, flags: u64) {
        answer(name, to, version, flags, std::ptr::null_mut())
    }
    fn cuGetProcAddress_v2(name: *const c_char, to: *mut *mut c_void, version: i32, flags: u64, status: *mut u32) {
        answer(name, to, version, flags, status)
    }
}
