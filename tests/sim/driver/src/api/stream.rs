//! Streams and events.

use super::out;
use crate::abi::{Handle, code};
use crate::entry::api;
use crate::work::Work;
use crate::{context, schedule, stream};
use std::ffi::c_void;

const PRIORITY: i32 = 8;
/// L2 window, how to wait, priority, memory domains.
const ATTRIBUTES: [i32; 5] = [1, 3, PRIORITY, 9, 10];

fn error_of(on: &stream::Stream) -> Result<(), u32> {
    match on.context()?.sticky() {
        0 => Ok(()),
        e => Err(e),
    }
}

api! {
    fn cuStreamCreate(s: *mut Handle, flags: u32) {
        out(s, stream::create(flags, 0)?)
    }
    fn cuStreamCreateWithPriority(s: *mut Handle, flags: u32, priority: i32) {
        out(s, stream::create(flags, priority)?)
    }
    fn cuStreamDestroy_v2(s: Handle) {
        crate::sim::ready()?;
        stream::destroy(s)
    }
    fn cuStreamSynchronize | cuStreamSynchronize_ptsz(s: Handle) {
        let on = stream::find(s)?;
        on.pending().iter().for_each(schedule::wait);
        error_of(&on)
    }
    fn cuStreamQuery | cuStreamQuery_ptsz(s: Handle) {
        let on = stream::find(s)?;
        let done = on.pending().iter().map(schedule::query).fold(true, |all, one| all & one);
        error_of(&on)?;
        if done { Ok(()) } else { Err(code::NOT_READY) }
    }
    fn cuStreamGetPriority | cuStreamGetPriority_ptsz(s: Handle, priority: *mut i32) {
        out(priority, stream::find(s)?.priority)
    }
    fn cuStreamGetFlags | cuStreamGetFlags_ptsz(s: Handle, flags: *mut u32) {
        out(flags, u32::from(!stream::find(s)?.blocking))
    }
    fn cuStreamGetId | cuStreamGetId_ptsz(s: Handle, id: *mut u64) {
        out(id, stream::find(s)?.id)
    }
    fn cuStreamGetCtx | cuStreamGetCtx_ptsz(s: Handle, ctx: *mut Handle) {
        out(ctx, stream::find(s)?.context()?.handle())
    }
    fn cuStreamGetCtx_v2 | cuStreamGetCtx_v2_ptsz(s: Handle, ctx: *mut Handle, green: *mut Handle) {
        out(ctx, stream::find(s)?.context()?.handle())?;
        if green.is_null() { Ok(()) } else { out(green, std::ptr::null_mut()) }
    }
    fn cuStreamGetDevice | cuStreamGetDevice_ptsz(s: Handle, dev: *mut i32) {
        out(dev, stream::find(s)?.context()?.device as i32)
    }
    fn cuStreamGetAttribute | cuStreamGetAttribute_ptsz(s: Handle, which: i32, value: *mut stream::Attribute) {
        let on = stream::find(s)?;
        if value.is_null() || !ATTRIBUTES.contains(&which) {
            return Err(code::INVALID_VALUE);
        }
        let known = on.attributes.lock().get(&which).copied();
        let mut given = known.unwrap_or([0; 64]);
        if which == PRIORITY {
            given[..4].copy_from_slice(&on.priority.to_le_bytes());
        }
        // SAFETY: the program says that room for one value is there.
        unsafe { value.write(given) };
        Ok(())
    }
    fn cuStreamSetAttribute | cuStreamSetAttribute_ptsz(s: Handle, which: i32, value: *const stream::Attribute) {
        let on = stream::find(s)?;
        if value.is_null() || !ATTRIBUTES.contains(&which) || which == PRIORITY {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the program passes one value.
        on.attributes.lock().insert(which, unsafe { value.read() });
        Ok(())
    }
    fn cuStreamCopyAttributes | cuStreamCopyAttributes_ptsz(to: Handle, from: Handle) {
        let (to, from) = (stream::find(to)?, stream::find(from)?);
        let attributes = from.attributes.lock().clone();
        *to.attributes.lock() = attributes;
        Ok(())
    }
    fn cuStreamWaitEvent | cuStreamWaitEvent_ptsz(s: Handle, e: Handle, _flags: u32) {
        let on = stream::find(s)?;
        let items = stream::event(e)?.items();
        // An item of its own, so that the wait is in the stream's order even if nothing follows.
        on.submit_after(None, items).map(drop)
    }
    fn cuStreamAddCallback | cuStreamAddCallback_ptsz(s: Handle, f: *const c_void, data: *mut c_void, flags: u32) {
        let on = stream::find(s)?;
        if f.is_null() || flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        let work = Work::Host { f: f as usize, data: data as usize, stream: s as usize, old: true };
        on.submit(Some(work)).map(drop)
    }
    fn cuLaunchHostFunc | cuLaunchHostFunc_ptsz(s: Handle, f: *const c_void, data: *mut c_void) {
        let on = stream::find(s)?;
        if f.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let work = Work::Host { f: f as usize, data: data as usize, stream: 0, old: false };
        on.submit(Some(work)).map(drop)
    }
    fn cuStreamIsCapturing | cuStreamIsCapturing_ptsz(s: Handle, status: *mut i32) {
        stream::find(s)?;
        out(status, 0)
    }
    fn cuStreamGetCaptureInfo | cuStreamGetCaptureInfo_ptsz(s: Handle, status: *mut i32, id: *mut u64) {
        stream::find(s)?;
        if !id.is_null() {
            out(id, 0)?;
        }
        out(status, 0)
    }
    fn cuStreamGetCaptureInfo_v2 | cuStreamGetCaptureInfo_v2_ptsz(s: Handle, status: *mut i32, id: *mut u64, _graph: *mut Handle, _deps: *mut *const Handle, _n: *mut usize) {
        stream::find(s)?;
        if !id.is_null() {
            out(id, 0)?;
        }
        out(status, 0)
    }
    fn cuStreamGetCaptureInfo_v3 | cuStreamGetCaptureInfo_v3_ptsz(s: Handle, status: *mut i32, id: *mut u64, _graph: *mut Handle, _deps: *mut *const Handle, _edges: *mut *const c_void, _n: *mut usize) {
        stream::find(s)?;
        if !id.is_null() {
            out(id, 0)?;
        }
        out(status, 0)
    }
    fn cuThreadExchangeStreamCaptureMode(mode: *mut i32) {
        crate::sim::ready()?;
        thread_local! {
            static MODE: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
        }
        if mode.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: checked; the ABI says it points to one value.
        let wanted = unsafe { mode.read() };
        if !(0..=2).contains(&wanted) {
            return Err(code::INVALID_VALUE);
        }
        out(mode, MODE.with(|m| m.replace(wanted)))
    }

    fn cuEventCreate(e: *mut Handle, flags: u32) {
        out(e, stream::create_event(flags)?)
    }
    fn cuEventDestroy_v2(e: Handle) {
        crate::sim::ready()?;
        stream::destroy_event(e)
    }
    fn cuEventRecord | cuEventRecord_ptsz(e: Handle, s: Handle) {
        let on = stream::find(s)?;
        stream::event(e)?.record(&on)
    }
    fn cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz(e: Handle, s: Handle, _flags: u32) {
        let on = stream::find(s)?;
        stream::event(e)?.record(&on)
    }
    fn cuEventQuery(e: Handle) {
        stream::event(e)?.query()
    }
    fn cuEventSynchronize(e: Handle) {
        stream::event(e)?.synchronize()
    }
    fn cuEventElapsedTime(ms: *mut f32, a: Handle, b: Handle) {
        out(ms, stream::event(b)?.since(&*stream::event(a)?)?)
    }
    fn cuEventElapsedTime_v2(ms: *mut f32, a: Handle, b: Handle) {
        out(ms, stream::event(b)?.since(&*stream::event(a)?)?)
    }
    fn cuCtxRecordEvent(ctx: Handle, e: Handle) {
        crate::sim::ready()?;
        let ctx = context::named(ctx)?;
        let event = stream::event(e)?;
        // A marker in every stream.
        let streams = ctx.order.lock().streams.clone();
        streams.iter().for_each(|s| s.wait_for_room());
        event.set(ctx.last_items());
        match ctx.sticky() {
            0 => Ok(()),
            e => Err(e),
        }
    }
    fn cuCtxWaitEvent(ctx: Handle, e: Handle) {
        crate::sim::ready()?;
        let ctx = context::named(ctx)?;
        let items = stream::event(e)?.items();
        let streams = ctx.order.lock().streams.clone();
        for on in streams {
            on.submit_after(None, items.clone())?;
        }
        Ok(())
    }
}
