//! Contexts come and go, and look into each other's memory.
//!
//! Before one goes, its allocations end, our own things in it are given back, and nothing of ours
//! uses it any more.

use super::{real, within};
use crate::driver::{Api, CUdevice, CUresult, Handle, code};
use crate::hook;
use crate::intercept::guard;
use crate::registry::contexts::{self, Context};
use crate::registry::{functions, globals, streams};
use crate::residency::{self, control, engine};
use parking_lot::Mutex;
use std::ffi::c_void;

hook! {
    fn cuCtxCreate(ctx: *mut Handle, flags: u32, device: CUdevice) |api| {
        let result = real!(api.cuCtxCreate(ctx, flags, device));
        // SAFETY: the program's own pointer, which the driver has accepted.
        unsafe { created(ctx, device, result) }
    }

    fn cuCtxCreate_v2(ctx: *mut Handle, flags: u32, device: CUdevice) |api| {
        let result = real!(api.cuCtxCreate_v2(ctx, flags, device));
        // SAFETY: as above.
        unsafe { created(ctx, device, result) }
    }

    fn cuCtxCreate_v3(
        ctx: *mut Handle,
        affinity: *mut c_void,
        n: i32,
        flags: u32,
        device: CUdevice,
    ) |api| {
        let result = real!(api.cuCtxCreate_v3(ctx, affinity, n, flags, device));
        // SAFETY: as above.
        unsafe { created(ctx, device, result) }
    }

    fn cuCtxCreate_v4(ctx: *mut Handle, params: *mut c_void, flags: u32, device: CUdevice) |api| {
        let result = real!(api.cuCtxCreate_v4(ctx, params, flags, device));
        // SAFETY: as above.
        unsafe { created(ctx, device, result) }
    }

    fn cuCtxDestroy(ctx: Handle) |api| around destroyed: {
        destroying(api, ctx, || real!(api.cuCtxDestroy(ctx)))
    }

    fn cuCtxDestroy_v2(ctx: Handle) |api| around destroyed: {
        destroying(api, ctx, || real!(api.cuCtxDestroy_v2(ctx)))
    }

    fn cuCtxAttach(ctx: *mut Handle, flags: u32) |api| {
        let result = real!(api.cuCtxAttach(ctx, flags));
        if result == code::SUCCESS && !ctx.is_null() {
            // SAFETY: the driver has written it.
            ATTACHED.lock().push(unsafe { *ctx } as usize);
        }
        result
    }

    fn cuCtxDetach(ctx: Handle) |api| around destroyed: {
        let held = ATTACHED.lock().iter().position(|&a| a == ctx as usize);
        let Some(at) = held else { return destroying(api, ctx, || real!(api.cuCtxDetach(ctx))) };
        let result = real!(api.cuCtxDetach(ctx));
        if result == code::SUCCESS {
            ATTACHED.lock().swap_remove(at);
        }
        result
    }

    fn cuDevicePrimaryCtxRetain(ctx: *mut Handle, device: CUdevice) |api| {
        let result = real!(api.cuDevicePrimaryCtxRetain(ctx, device));
        if let (code::SUCCESS, Ok(ordinal)) = (result, u8::try_from(device)) {
            // SAFETY: the driver has written it.
            let handle = unsafe { *ctx } as usize;
            contexts::created(handle, ordinal);
            contexts::primary_retained(ordinal, handle);
        }
        result
    }

    fn cuDevicePrimaryCtxRelease(device: CUdevice) |api| around released: {
        // SAFETY: the program's own call with its own argument.
        releasing(api, device, || unsafe { (api.cuDevicePrimaryCtxRelease)(device) })
    }

    fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) |api| around released: {
        // SAFETY: the program's own call with its own argument.
        releasing(api, device, || unsafe { (api.cuDevicePrimaryCtxRelease_v2)(device) })
    }

    fn cuDevicePrimaryCtxReset(device: CUdevice) |api| around reset: {
        resetting(api, device, || real!(api.cuDevicePrimaryCtxReset(device)))
    }

    fn cuDevicePrimaryCtxReset_v2(device: CUdevice) |api| around reset: {
        resetting(api, device, || real!(api.cuDevicePrimaryCtxReset_v2(device)))
    }

    fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) |api| {
        let result = real!(api.cuCtxEnablePeerAccess(peer, flags));
        if result != code::SUCCESS {
            return result;
        }
        let Some((me, owner)) = pair(peer) else { return result };
        // The memory may come later than the permission.
        if engine::device_for(owner).is_none() {
            return result;
        }
        match residency::contexts::allow_peer(owner.device, me.device) {
            Ok(()) => result,
            Err(e) => {
                // SAFETY: takes back what was just granted.
                unsafe { (api.cuCtxDisablePeerAccess)(peer) };
                e
            }
        }
    }

    fn cuCtxDisablePeerAccess(peer: Handle) |api| {
        let result = real!(api.cuCtxDisablePeerAccess(peer));
        if let (code::SUCCESS, Some((me, owner))) = (result, pair(peer)) {
            residency::contexts::forbid_peer(owner.device, me.device);
        }
        result
    }
}

/// Contexts attached once more than created, by handle.
static ATTACHED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// # Safety
/// After SUCCESS `ctx` points to a context of `device`.
unsafe fn created(ctx: *const Handle, device: CUdevice, result: CUresult) -> CUresult {
    if let (code::SUCCESS, Ok(ordinal)) = (result, u8::try_from(device)) {
        // SAFETY: the caller's promise.
        contexts::created(unsafe { *ctx } as usize, ordinal);
    }
    result
}

/// A context is about to be destroyed, by `call`.
fn going(api: &Api, ctx: usize, call: impl FnOnce() -> CUresult) -> CUresult {
    let Some(context) = contexts::find(ctx) else { return call() };
    // The driver's own destroy waits for the context's work; waiting before it lets the memory go
    // back at once.
    // SAFETY: no arguments.
    let waited = within(ctx, || unsafe { (api.cuCtxSynchronize)() });
    forget(context, waited == Ok(code::SUCCESS), true);
    let result = call();
    // What was known of its streams and globals is gone all the same, and without that nothing may
    // be evicted any more.
    if !ends(result) {
        control::latch("a context that could not be destroyed");
    }
    result
}

/// Whether a destroy that answers this has destroyed.
fn ends(result: CUresult) -> bool {
    matches!(result, code::SUCCESS | code::DEINITIALIZED)
}

/// Ends everything of ours in a context. `waited`: all its work has finished; `alive`: the driver
/// still has it.
fn forget(context: Context, waited: bool, alive: bool) {
    let _forgotten = Forgotten(context.handle);
    residency::contexts::going(context, waited, alive);
}

/// A context that nothing of ours names any more once this goes, after a panic as well.
struct Forgotten(usize);

impl Drop for Forgotten {
    fn drop(&mut self) {
        streams::context_gone(self.0);
        globals::context_going(self.0);
        functions::unloading();
        contexts::gone(self.0);
    }
}

/// A primary context is only ever released: the driver refuses to destroy it, and it goes on.
fn destroying(api: &Api, ctx: Handle, call: impl FnOnce() -> CUresult) -> CUresult {
    if contexts::is_primary(ctx as usize) { call() } else { going(api, ctx as usize, call) }
}

/// Makes a call that may end a context in which our things still are. A call of ours into one that
/// has ended would crash in the driver, so none is made from before the call on, unless `lives`
/// says afterwards that it is still there. Whether it has ended.
fn doubted(
    ctx: Option<usize>,
    call: impl FnOnce() -> CUresult,
    lives: impl FnOnce(CUresult) -> bool,
) -> (CUresult, bool) {
    let doubt = ctx.and_then(residency::contexts::doubt);
    let result = call();
    let lives = lives(result);
    match doubt {
        Some(doubt) if lives => doubt.lives_on(),
        Some(doubt) => doubt.ended(),
        None => {}
    }
    (result, !lives)
}

/// The call that destroys a context, where nothing could be done before it: after a panic, or the
/// driver's own.
fn destroyed(_: &Api, (ctx,): (Handle,), call: impl FnOnce() -> CUresult) -> CUresult {
    let ctx = Some(ctx as usize).filter(|&c| !contexts::is_primary(c));
    doubted(ctx, call, |result| !ends(result)).0
}

/// As [`destroyed`] for a release of a primary context: the count of retains may be wrong by then,
/// so the driver says whether that was the last.
fn released(api: &Api, (device,): (CUdevice,), call: impl FnOnce() -> CUresult) -> CUresult {
    let Ok(ordinal) = u8::try_from(device) else { return call() };
    let ctx = contexts::primary(ordinal);
    let (result, ended) = doubted(ctx, call, |_| primary_active(api, device));
    if result == code::SUCCESS {
        contexts::primary_released(ordinal);
        match ctx {
            Some(_) if ended => contexts::primary_ended(ordinal),
            Some(ctx) if contexts::primary(ordinal).is_none() => {
                contexts::primary_retained(ordinal, ctx);
            }
            _ => {}
        }
    }
    result
}

/// As [`destroyed`] for a reset of a primary context.
fn reset(_: &Api, (device,): (CUdevice,), call: impl FnOnce() -> CUresult) -> CUresult {
    let ctx = u8::try_from(device).ok().and_then(contexts::primary);
    doubted(ctx, call, |result| !ends(result)).0
}

fn releasing(api: &Api, device: CUdevice, call: impl FnOnce() -> CUresult) -> CUresult {
    let Ok(ordinal) = u8::try_from(device) else { return guard::real(call) };
    if !engine::frozen()
        && let Some(ctx) = contexts::primary_ending(ordinal)
    {
        let result = going(api, ctx, || guard::real(call));
        if result == code::SUCCESS {
            contexts::primary_released(ordinal);
        }
        return result;
    }
    // A reset makes the driver forget who had retained the context, so this release can be the last
    // although others have retained it, as far as we know.
    let ctx = contexts::primary(ordinal);
    let hidden = ctx.map(globals::context_going);
    let result = guard::real(|| released(api, (device,), call));
    match ctx {
        // The driver has waited for its work.
        Some(handle) if result == code::SUCCESS && contexts::primary(ordinal).is_none() => {
            forget(Context { handle, device: ordinal }, true, false);
        }
        _ => hidden.into_iter().for_each(globals::Hidden::stay),
    }
    result
}

fn primary_active(api: &Api, device: CUdevice) -> bool {
    let (mut flags, mut active) = (0, 1);
    // SAFETY: live locals; a call that fails leaves them as they are.
    unsafe { (api.cuDevicePrimaryCtxGetState)(device, &mut flags, &mut active) };
    active != 0
}

fn resetting(api: &Api, device: CUdevice, call: impl FnOnce() -> CUresult) -> CUresult {
    match u8::try_from(device).ok().and_then(contexts::primary) {
        Some(ctx) => going(api, ctx, call),
        None => call(),
    }
}

/// The current context and that of `peer`.
fn pair(peer: Handle) -> Option<(Context, Context)> {
    let me = contexts::current()?;
    let owner = match contexts::find(peer as usize) {
        Some(owner) => owner,
        None => within(peer as usize, contexts::current).ok()??,
    };
    Some((me, owner))
}
