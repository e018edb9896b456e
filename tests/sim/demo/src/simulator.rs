//! The simulated driver's own count of its memory, where the simulator is what runs.

use cuda_client::Driver;
use std::ffi::{CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

/// The control functions of the simulator.
#[derive(Debug, Clone, Copy)]
pub struct Simulator {
    peak: unsafe extern "C" fn(c_int) -> u64,
    reset_peak: unsafe extern "C" fn(c_int),
}

impl Simulator {
    /// Finds the simulator: the library `SIMCUDA_LIBRARY` names, if it is loaded (something may
    /// stand between this program and it), else the driver itself.
    pub fn find(driver: &Driver) -> Option<Simulator> {
        let named = std::env::var_os("SIMCUDA_LIBRARY").and_then(|path| loaded(&path));
        let symbol = |name: &str| match named {
            Some(library) => {
                let name = CString::new(name).ok()?;
                // SAFETY: an open library and a terminated name.
                Some(unsafe { libc::dlsym(library, name.as_ptr()) })
            }
            None => Some(driver.symbol(name)),
        };
        let (peak, reset) = (symbol("simcuda_peak")?, symbol("simcuda_reset_peak")?);
        if peak.is_null() || reset.is_null() {
            return None;
        }
        // SAFETY: only the simulator exports these names, with these signatures; it stays loaded.
        unsafe {
            Some(Simulator {
                peak: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> u64>(peak),
                reset_peak: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(reset),
            })
        }
    }

    /// The most device memory in use since the last call.
    pub fn take_peak(&self) -> u64 {
        // SAFETY: plain functions of a loaded library; device 0 exists.
        unsafe {
            let peak = (self.peak)(0);
            (self.reset_peak)(0);
            peak
        }
    }
}

fn loaded(path: &OsStr) -> Option<*mut c_void> {
    let path = CString::new(path.as_bytes()).ok()?;
    // SAFETY: a terminated path; with NOLOAD nothing is loaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    (!library.is_null()).then_some(library)
}
