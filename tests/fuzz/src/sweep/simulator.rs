//! The simulator's control functions that a sweep needs.

use crate::coldpress::simulator;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};

type Calls = unsafe extern "C" fn(*const c_char) -> u64;
type Called = unsafe extern "C" fn(*mut c_char, u64) -> u64;
type Fail = unsafe extern "C" fn(*const c_char) -> i32;

/// What a program can leave behind; addresses are not among it, since the library keeps its own.
const THINGS: [&str; 7] =
    ["handles", "mappings", "streams", "events", "host_allocations", "allocations", "modules"];

/// The functions.
pub struct Simulator {
    calls: Calls,
    called: Called,
    live: Calls,
    fail: Fail,
}

/// A function of the simulator.
///
/// # Safety
/// `T` is its type.
unsafe fn function<T: Copy>(name: &str) -> Option<T> {
    let at: *mut c_void = simulator(name);
    debug_assert_eq!(size_of::<T>(), size_of::<*mut c_void>());
    // SAFETY: not null, and a function pointer of this type, as the caller says.
    (!at.is_null()).then(|| unsafe { std::mem::transmute_copy(&at) })
}

fn text(of: &str) -> CString {
    CString::new(of).unwrap_or_default()
}

impl Simulator {
    /// Looks them up.
    pub fn find() -> Option<Simulator> {
        // SAFETY: the signatures are those of the simulator's README.
        unsafe {
            Some(Simulator {
                calls: function("simcuda_calls")?,
                called: function("simcuda_called")?,
                live: function("simcuda_live")?,
                fail: function("simcuda_fail")?,
            })
        }
    }

    /// Calls of a function so far.
    pub fn calls_of(&self, name: &str) -> u64 {
        // SAFETY: a C string.
        unsafe { (self.calls)(text(name).as_ptr()) }
    }

    /// Calls of every function so far.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let mut names = vec![0u8; 64 << 10];
        // SAFETY: as many bytes as are said.
        let n = unsafe { (self.called)(names.as_mut_ptr().cast(), names.len() as u64) };
        names.truncate(n as usize);
        let names = String::from_utf8_lossy(&names);
        names.lines().map(|name| (name.to_owned(), self.calls_of(name))).collect()
    }

    /// Adds rules of what fails, or removes all.
    pub fn fail(&self, rules: Option<&str>) -> Result<(), String> {
        let rules = rules.map(text);
        let at = rules.as_ref().map_or(std::ptr::null(), |r| r.as_ptr());
        // SAFETY: null or a C string.
        match unsafe { (self.fail)(at) } {
            1 => Ok(()),
            _ => Err(format!("the simulator does not understand {rules:?}")),
        }
    }

    /// What there is now of everything that a program can leave behind, where there is any.
    pub fn left(&self) -> Vec<(&'static str, u64)> {
        // SAFETY: C strings.
        let count = |what: &&'static str| (*what, unsafe { (self.live)(text(what).as_ptr()) });
        THINGS.iter().map(count).filter(|&(_, n)| n > 0).collect()
    }
}
