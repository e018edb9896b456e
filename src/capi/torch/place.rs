//! The device an operation is meant for, made current for its time.
//!
//! PyTorch names the device in every call, and calls from threads that have none current. Its
//! memory belongs to the primary context. All calls here are the program's own functions, outside
//! the guard, so that this library counts contexts and starts as if the program had called them.

use super::instance;
use crate::driver::{Api, CUresult, Handle, code};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

/// A context of the device is current while this lives.
#[derive(Debug)]
pub struct Place {
    api: &'static Api,
    pushed: bool,
    /// Whose primary context is let go at the end.
    retained: Option<c_int>,
}

impl Place {
    /// Makes a context of `device` current: the thread's own if it fits, else the primary one.
    pub fn enter(device: c_int) -> Result<Place, CUresult> {
        let api = instance::program().ok_or(code::NOT_INITIALIZED)?;
        initialise(api)?;
        let mut place = Place { api, pushed: false, retained: None };
        if current_device(api) == Some(device) {
            return Ok(place);
        }
        let (mut flags, mut active) = (0, 0);
        let mut context: Handle = std::ptr::null_mut();
        // SAFETY: live locals.
        done(unsafe { (api.cuDevicePrimaryCtxGetState)(device, &mut flags, &mut active) })?;
        // SAFETY: a live local.
        done(unsafe { (api.cuDevicePrimaryCtxRetain)(&mut context, device) })?;
        // Where nobody else keeps it alive it has to stay, or our memory would go with it.
        place.retained = (active != 0).then_some(device);
        // SAFETY: just retained.
        done(unsafe { (api.cuCtxPushCurrent_v2)(context) })?;
        place.pushed = true;
        Ok(place)
    }

    /// The driver to call here.
    pub fn api(&self) -> &'static Api {
        self.api
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut popped: Handle = std::ptr::null_mut();
        if self.pushed {
            // SAFETY: a live local; the context was pushed by `enter`.
            unsafe { (self.api.cuCtxPopCurrent_v2)(&mut popped) };
        }
        if let Some(device) = self.retained {
            // SAFETY: retained by `enter`, and by somebody else before.
            unsafe { (self.api.cuDevicePrimaryCtxRelease_v2)(device) };
        }
    }
}

/// Initialises the driver once, as the program would.
fn initialise(api: &Api) -> Result<(), CUresult> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: 0 is the only value there is.
    done(unsafe { (api.cuInit)(0) })?;
    DONE.store(true, Ordering::Release);
    Ok(())
}

fn current_device(api: &Api) -> Option<c_int> {
    let mut device = -1;
    // SAFETY: a live local.
    (unsafe { (api.cuCtxGetDevice)(&mut device) } == code::SUCCESS).then_some(device)
}

/// Physical memory of a card; 0 if it cannot be asked.
pub fn card_bytes(device: c_int, api: &Api) -> u64 {
    let mut bytes = 0usize;
    // SAFETY: a live local, which a failing call leaves as it is.
    unsafe { (api.cuDeviceTotalMem_v2)(&mut bytes, device) };
    bytes as u64
}

fn done(result: CUresult) -> Result<(), CUresult> {
    if result == code::SUCCESS { Ok(()) } else { Err(result) }
}
