//! Contexts and the device each belongs to.

use crate::driver::{self, Handle, code};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A live context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The driver's handle.
    pub handle: usize,
    /// Ordinal of its device.
    pub device: u8,
}

static LIVE: RwLock<Vec<Context>> = RwLock::new(Vec::new());
static SHARED_DEVICE: AtomicBool = AtomicBool::new(false);

/// The calling thread's current context, as the driver says; a context met for the first time is
/// registered.
pub fn current() -> Option<Context> {
    let api = driver::api()?;
    let mut handle = std::ptr::null_mut();
    // SAFETY: `handle` is a live local.
    if unsafe { (api.cuCtxGetCurrent)(&mut handle) } != code::SUCCESS || handle.is_null() {
        return None;
    }
    let known = LIVE.read().iter().find(|c| c.handle == handle as usize).copied();
    known.or_else(|| register(api, handle))
}

#[cold]
fn register(api: &driver::Api, handle: Handle) -> Option<Context> {
    let mut device = 0;
    // SAFETY: `device` is a live local; the context is current on this thread.
    if unsafe { (api.cuCtxGetDevice)(&mut device) } != code::SUCCESS {
        return None;
    }
    let context = Context { handle: handle as usize, device: u8::try_from(device).ok()? };
    let mut live = LIVE.write();
    if !live.contains(&context) {
        if live.iter().any(|c| c.device == context.device) {
            SHARED_DEVICE.store(true, Ordering::Release);
        }
        live.push(context);
    }
    Some(context)
}

/// All registered contexts that have not gone.
pub fn live() -> Vec<Context> {
    LIVE.read().clone()
}

/// The registered context with this handle.
pub fn find(handle: usize) -> Option<Context> {
    LIVE.read().iter().find(|c| c.handle == handle).copied()
}

/// The context has gone, or is about to and may not be used any more.
pub fn gone(handle: usize) {
    LIVE.write().retain(|c| c.handle != handle);
}

/// True once two contexts of one device have been seen: then one legacy stream is not enough to
/// name "the" legacy stream of a device.
pub fn shared_device() -> bool {
    SHARED_DEVICE.load(Ordering::Acquire)
}
