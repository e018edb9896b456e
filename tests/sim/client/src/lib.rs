//! Thin typed bindings to whatever CUDA driver the loader finds, for victim programs and tests.
//!
//! Owns: finding the functions, their signatures and the structures they take. It never keeps
//! state of its own, never retries and never cleans up: what a program does with the driver is
//! exactly what it wrote. Handles are plain values, so a test can pass a stale or foreign one;
//! methods that take host addresses are `unsafe`, the rest leave every judgement to the driver.

mod code;
mod context;
mod copy;
mod memory;
mod module;
mod stream;
mod table;
mod types;
mod vmm;

pub use code::{Code, Result};
pub use copy::Plain;
pub use module::{Extra, Grid};
pub use table::{ENTRIES, Entry, Raw};
pub use types::*;

use std::ffi::{CString, c_int, c_void};

/// How the functions are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// `dlsym` of the exported names, legacy default stream.
    Symbols,
    /// `dlsym` of the exported names, per-thread default stream variants where they exist.
    PerThreadSymbols,
    /// `cuGetProcAddress_v2`, as a program built with the toolkit `version` asks.
    ProcAddress {
        /// Toolkit version, as 12080.
        version: u32,
        /// Ask for the per-thread default stream variants.
        per_thread: bool,
    },
}

type Resolver =
    unsafe extern "C" fn(*const std::ffi::c_char, *mut *mut c_void, c_int, u64, *mut u32) -> u32;

/// Why no driver could be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(pub String);

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// A loaded driver. The library stays loaded for the life of the process.
#[derive(Debug, Clone)]
pub struct Driver {
    /// The functions, for calls the methods do not cover.
    pub raw: Raw,
    /// The library, as a number (`dlopen`'s handle).
    library: usize,
}

/// Calls one function of the table, or says NOT_FOUND where the driver has none.
macro_rules! call {
    ($driver:ident.$function:ident($($arg:expr),* $(,)?)) => {
        match $driver.raw.$function {
            // SAFETY: the pointer came from the driver under this signature; outputs are live
            // locals, and host addresses are vouched for by the callers of `unsafe` methods.
            Some(function) => $crate::Code::check(unsafe { function($($arg),*) }),
            None => Err($crate::Code::NOT_FOUND),
        }
    };
}
pub(crate) use call;

impl Driver {
    /// Loads `libcuda.so.1` as the loader finds it and its exported functions.
    pub fn load() -> std::result::Result<Driver, LoadError> {
        Self::open("libcuda.so.1", Lookup::Symbols)
    }

    /// Loads the driver at `path` (a file, or a name for the loader to search).
    pub fn open(path: &str, lookup: Lookup) -> std::result::Result<Driver, LoadError> {
        let name = CString::new(path).map_err(|e| LoadError(e.to_string()))?;
        // SAFETY: a terminated string; running the library's constructors is the purpose.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            // SAFETY: after a failed dlopen the message is a live, terminated string.
            let why = unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) };
            return Err(LoadError(why.to_string_lossy().into_owned()));
        }
        let symbol = |name: String| {
            let name = CString::new(name).unwrap_or_default();
            // SAFETY: the library is open and the name terminated.
            unsafe { libc::dlsym(library, name.as_ptr()) }
        };
        let resolver = match lookup {
            Lookup::ProcAddress { .. } => symbol("cuGetProcAddress_v2".to_owned()),
            _ => std::ptr::null_mut(),
        };
        // SAFETY: a pointer and an optional function pointer have one layout, null being `None`;
        // this export's signature is the documented one.
        let resolver = unsafe { std::mem::transmute::<*mut c_void, Option<Resolver>>(resolver) };
        let ask = |row: &Entry, version: u32, flags: u64| {
            let (Some(resolver), true) = (resolver, version >= row.since) else {
                return std::ptr::null_mut();
            };
            let asked = version.min(row.before - 1) as c_int;
            let name = CString::new(row.name).unwrap_or_default();
            let (mut found, mut status) = (std::ptr::null_mut(), 0);
            // SAFETY: a terminated name and live outputs.
            match unsafe { resolver(name.as_ptr(), &mut found, asked, flags, &mut status) } {
                0 => found,
                _ => std::ptr::null_mut(),
            }
        };
        let look = |row: &Entry| match lookup {
            Lookup::Symbols => symbol(format!("{}{}", row.name, row.suffix)),
            Lookup::PerThreadSymbols => {
                symbol(format!("{}{}{}", row.name, row.suffix, row.per_thread))
            }
            Lookup::ProcAddress { version, per_thread: false } => {
                ask(row, version, flag::PROC_DEFAULT)
            }
            Lookup::ProcAddress { version, per_thread: true } => {
                ask(row, version, flag::PROC_PER_THREAD)
            }
        };
        // SAFETY: the exported name, or the name and version asked for, determine the signature,
        // and the table gives each row the one documented for it.
        let raw = unsafe { Raw::fill(look) };
        if raw.cuInit.is_none() {
            return Err(LoadError(format!("{path} is not a CUDA driver: no cuInit")));
        }
        Ok(Driver { raw, library: library as usize })
    }

    /// The address of any exported symbol, or null; for control symbols of a test driver.
    pub fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the library is never closed and the name terminated.
        unsafe { libc::dlsym(self.library as *mut c_void, name.as_ptr()) }
    }

    /// The file the driver was loaded from, if the loader tells.
    pub fn path(&self) -> Option<String> {
        // SAFETY: all zero bits are a valid value of this plain structure.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        let init = self.raw.cuInit? as *const c_void;
        // SAFETY: an address inside the library and a live output.
        if unsafe { libc::dladdr(init, &mut info) } == 0 || info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: the loader's own terminated string, alive while the library is.
        let name = unsafe { std::ffi::CStr::from_ptr(info.dli_fname) };
        Some(name.to_string_lossy().into_owned())
    }

    /// Whether this is the simulated driver.
    pub fn is_simulated(&self) -> bool {
        !self.symbol("simcuda_peak").is_null()
    }

    /// `cuGetProcAddress_v2`: the pointer and the query status.
    pub fn proc_address(&self, name: &str, version: u32, flags: u64) -> Result<(usize, u32)> {
        let name = CString::new(name).map_err(|_| Code::INVALID_VALUE)?;
        let (mut found, mut status) = (std::ptr::null_mut(), u32::MAX);
        call!(self.cuGetProcAddress(
            name.as_ptr(),
            &mut found,
            version as c_int,
            flags,
            &mut status
        ))?;
        Ok((found as usize, status))
    }

    /// `cuGetExportTable`; only whether it answers, the contents are nobody's business here.
    pub fn export_table(&self, id: [u8; 16]) -> Result<()> {
        let mut table = std::ptr::null();
        call!(self.cuGetExportTable(&mut table, &id))
    }

    /// `cuGetErrorName`.
    pub fn error_name(&self, code: Code) -> Result<String> {
        let mut text = std::ptr::null();
        call!(self.cuGetErrorName(code.0, &mut text))?;
        Ok(text_of(text))
    }

    /// `cuGetErrorString`.
    pub fn error_string(&self, code: Code) -> Result<String> {
        let mut text = std::ptr::null();
        call!(self.cuGetErrorString(code.0, &mut text))?;
        Ok(text_of(text))
    }
}

/// Copies a string the driver owns.
fn text_of(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the driver's strings are terminated and live as long as it does.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A terminated copy of a name, for the driver to read.
fn terminated(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Code::INVALID_VALUE)
}
