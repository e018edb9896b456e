//! Contexts.

use super::{device, out};
use crate::abi::{CUdevice, Handle, code};
use crate::context::{self, Context};
use crate::entry::api;
use crate::sim;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const FOUR_BYTE_BANKS: i32 = 1;

fn target(handle: Handle) -> Result<Arc<Context>, u32> {
    if handle.is_null() { context::current_even_failed() } else { context::named(handle) }
}

api! {
    fn cuCtxCreate_v2(ctx: *mut Handle, flags: u32, dev: CUdevice) {
        let dev = device(dev)?;
        out(ctx, context::create(dev, flags))
    }

    fn cuCtxCreate_v3(ctx: *mut Handle, _affinity: *mut c_void, _n: i32, flags: u32, dev: CUdevice) {
        let dev = device(dev)?;
        out(ctx, context::create(dev, flags))
    }

    fn cuCtxCreate_v4(ctx: *mut Handle, _params: *mut c_void, flags: u32, dev: CUdevice) {
        let dev = device(dev)?;
        out(ctx, context::create(dev, flags))
    }

    fn cuCtxDestroy_v2(ctx: Handle) {
        sim::ready()?;
        context::destroy(ctx)
    }

    fn cuCtxPushCurrent_v2(ctx: Handle) {
        sim::ready()?;
        context::push(ctx)
    }

    fn cuCtxPopCurrent_v2(ctx: *mut Handle) {
        sim::ready()?;
        let popped = context::pop()?;
        if ctx.is_null() { Ok(()) } else { out(ctx, popped) }
    }

    fn cuCtxSetCurrent(ctx: Handle) {
        sim::ready()?;
        context::set(ctx)
    }

    fn cuCtxGetCurrent(ctx: *mut Handle) {
        sim::ready()?;
        out(ctx, context::current_handle())
    }

    fn cuCtxGetDevice(dev: *mut CUdevice) {
        out(dev, context::current_even_failed()?.device as i32)
    }

    fn cuCtxGetDevice_v2(dev: *mut CUdevice, ctx: Handle) {
        out(dev, target(ctx)?.device as i32)
    }

    fn cuCtxGetFlags(flags: *mut u32) {
        out(flags, context::current()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: u32) {
        context::current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetId(ctx: Handle, id: *mut u64) {
        out(id, target(ctx)?.handle() as u64)
    }

    fn cuCtxGetApiVersion(ctx: Handle, version: *mut u32) {
        target(ctx)?;
        out(version, 3020)
    }

    fn cuCtxSynchronize() {
        context::current_even_failed()?.synchronize()
    }

    fn cuCtxSynchronize_v2(ctx: Handle) {
        target(ctx)?.synchronize()
    }

    fn cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) {
        context::current()?;
        if !least.is_null() {
            out(least, 0)?;
        }
        if greatest.is_null() { Ok(()) } else { out(greatest, -5) }
    }

    fn cuCtxGetLimit(value: *mut usize, _which: i32) {
        context::current()?;
        out(value, 1 << 20)
    }

    fn cuCtxSetLimit(_which: i32, _value: usize) {
        context::current().map(drop)
    }

    fn cuCtxGetCacheConfig(config: *mut i32) {
        context::current()?;
        out(config, 0)
    }

    fn cuCtxSetCacheConfig(_config: i32) {
        context::current().map(drop)
    }

    fn cuCtxGetSharedMemConfig(config: *mut i32) {
        context::current()?;
        out(config, FOUR_BYTE_BANKS)
    }

    fn cuCtxSetSharedMemConfig(_config: i32) {
        // As on every card of today: taken, and of no effect.
        context::current().map(drop)
    }

    fn cuProfilerStart() {
        context::current().map(drop)
    }

    fn cuProfilerStop() {
        context::current().map(drop)
    }

    fn cuCtxResetPersistingL2Cache() {
        context::current().map(drop)
    }

    fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) {
        let ctx = context::current()?;
        let peer = context::named(peer)?;
        if flags != 0 || peer.device == ctx.device {
            return Err(code::INVALID_VALUE);
        }
        let before = ctx.peers.fetch_or(1 << peer.device, Ordering::AcqRel);
        if before & 1 << peer.device == 0 { Ok(()) } else { Err(code::PEER_ACCESS_ALREADY_ENABLED) }
    }

    fn cuCtxDisablePeerAccess(peer: Handle) {
        let ctx = context::current()?;
        let peer = context::named(peer)?;
        let before = ctx.peers.fetch_and(!(1 << peer.device), Ordering::AcqRel);
        let was = before & 1 << peer.device != 0 && peer.device != ctx.device;
        if was { Ok(()) } else { Err(code::PEER_ACCESS_NOT_ENABLED) }
    }

    fn cuDevicePrimaryCtxRetain(ctx: *mut Handle, dev: CUdevice) {
        let dev = device(dev)?;
        out(ctx, context::retain_primary(dev))
    }

    fn cuDevicePrimaryCtxRelease(dev: CUdevice) {
        context::release_primary(device(dev)?)
    }

    fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) {
        context::release_primary(device(dev)?)
    }

    fn cuDevicePrimaryCtxReset(dev: CUdevice) {
        context::reset_primary(device(dev)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) {
        context::reset_primary(device(dev)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: u32) {
        context::set_primary_flags(device(dev)?, flags);
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: u32) {
        context::set_primary_flags(device(dev)?, flags);
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut u32, active: *mut i32) {
        let (f, a) = context::primary_state(device(dev)?);
        out(flags, f)?;
        out(active, i32::from(a))
    }
}
