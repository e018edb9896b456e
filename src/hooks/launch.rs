//! Launches: every address in the parameters is resident and stamped.
//!
//! The fast path is `residency::submit::launch`; here are only two look-ups, lock-free both. A
//! kernel may start before its predecessor in the stream has ended (programmatic serialisation);
//! that changes nothing, since restores are finished before the call is made.

use super::extra::{self, Extra};
use super::{idle, latched};
use crate::driver::types::LaunchConfig;
use crate::driver::{CUresult, Handle, code};
use crate::hook;
use crate::registry::functions::{self, Layout};
use crate::registry::streams::slot_of;
use crate::residency::submit::{self, Operand};
use crate::residency::{control, query};
use std::ffi::c_void;

/// CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
const WINDOW: u32 = 1;
/// CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE
const UPDATABLE: u32 = 13;
/// The newest attribute whose meaning is known.
const NEWEST: u32 = 16;

hook! {
    fn cuLaunchKernel(
        f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32,
        stream: Handle, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own parameters.
        unsafe { launch(f, slot_of(stream, false), params, extra, call) }
    }

    fn cuLaunchKernel_ptsz(
        f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32,
        stream: Handle, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own parameters.
        unsafe { launch(f, slot_of(stream, true), params, extra, call) }
    }

    fn cuLaunchCooperativeKernel(
        f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32,
        stream: Handle, params: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own parameters.
        unsafe { launch(f, slot_of(stream, false), params, std::ptr::null_mut(), call) }
    }

    fn cuLaunchCooperativeKernel_ptsz(
        f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32,
        stream: Handle, params: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own parameters.
        unsafe { launch(f, slot_of(stream, true), params, std::ptr::null_mut(), call) }
    }

    fn cuLaunchKernelEx(
        config: *const LaunchConfig, f: Handle, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own configuration and parameters.
        unsafe { launch_ex(config, false, f, params, extra, call) }
    }

    fn cuLaunchKernelEx_ptsz(
        config: *const LaunchConfig, f: Handle, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) |api, call| {
        // SAFETY: the program's own configuration and parameters.
        unsafe { launch_ex(config, true, f, params, extra, call) }
    }
}

/// # Safety
/// `params` and `extra` are as the driver requires for `f`.
#[inline(always)]
unsafe fn launch(
    f: Handle,
    slot: u8,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    if idle() {
        return call();
    }
    match functions::layout(f) {
        Layout::Known(places) if !params.is_null() || places.is_empty() => {
            // SAFETY: the program passes one valid pointer for each parameter.
            unsafe { submit::launch(slot, places, params.cast_const().cast(), call) }
        }
        // SAFETY: the caller's promise.
        layout => unsafe { launch_rare(layout, slot, params, extra, call) },
    }
}

/// The `extra` form, no parameters where there should be, an unknown layout.
///
/// # Safety
/// As for [`launch`].
#[cold]
#[inline(never)]
unsafe fn launch_rare(
    layout: Layout,
    slot: u8,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    if params.is_null() && !extra.is_null() {
        // SAFETY: the program's own list.
        match unsafe { extra::read(extra.cast_const()) } {
            Extra::Words(words) => return submit::launch_words(slot, &words, call),
            Extra::Nothing if layout != Layout::Unknown => return call(),
            Extra::Nothing | Extra::Unknown => {}
        }
    } else if layout != Layout::Unknown {
        // Parameters are missing: the driver refuses.
        return call();
    }
    latched("a launch with unknown parameters", || submit::launch_words(slot, &[], call))
}

/// # Safety
/// `config` is null or a configuration; the rest as for [`launch`].
#[inline(always)]
unsafe fn launch_ex(
    config: *const LaunchConfig,
    per_thread: bool,
    f: Handle,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    // SAFETY: the caller's promise.
    let Some(config) = (unsafe { config.as_ref() }) else { return call() };
    let slot = slot_of(config.stream, per_thread);
    if config.num_attrs > 0 && !idle() {
        // SAFETY: as above.
        let done = unsafe { attributes(config, slot) };
        if done != code::SUCCESS {
            return done;
        }
    }
    // SAFETY: as above.
    unsafe { launch(f, slot, params, extra, call) }
}

/// What the attributes of a launch reach.
///
/// # Safety
/// The configuration is as the driver requires.
unsafe fn attributes(config: &LaunchConfig, slot: u8) -> CUresult {
    if config.attrs.is_null() {
        return code::SUCCESS;
    }
    // SAFETY: the caller vouches for the list.
    let list = unsafe { std::slice::from_raw_parts(config.attrs, config.num_attrs as usize) };
    for attribute in list {
        let done = match attribute.id {
            WINDOW => {
                let [ptr, len, ..] = attribute.value;
                let window = Operand { ptr, len: usize::try_from(len).unwrap_or(usize::MAX) };
                if !query::covers(ptr) {
                    continue;
                }
                // A hint for the cache: it reads nothing, so it need not stay until the launch.
                submit::submit(slot, &[window], None, || code::SUCCESS)
            }
            // Another kernel may put any address into the node later.
            UPDATABLE if attribute.value[0] as u32 != 0 => {
                control::latch("cuLaunchKernelEx of a device-updatable node")
            }
            0..=NEWEST => continue,
            _ => control::latch("cuLaunchKernelEx with an unknown attribute"),
        };
        if done != code::SUCCESS {
            return done;
        }
    }
    code::SUCCESS
}
