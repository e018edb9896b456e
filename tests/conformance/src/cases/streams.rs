//! Streams themselves, and the life of what their work uses.

use crate::case::{Case, Outcome, all_same, holds, refused, same};
use crate::context::{Cx, soon};
use cuda_client::{Code, Stream, flag};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case::new("stream.flags", "A stream tells its flags; unknown flags are refused.", flags),
    Case::new("stream.context", "A stream tells its context, default streams too.", context),
    Case::new("stream.ids", "Streams have ids of their own.", ids),
    Case::new("stream.priority", "A priority beyond the range is brought into it.", priority),
    Case::new("stream.query", "A held stream is not ready, an idle one is.", query),
    Case::new("stream.in_order", "Work of one stream runs in order.", in_order),
    Case::new(
        "stream.destroy_busy",
        "A stream destroyed with pending work returns at once; the work still runs.",
        destroy_busy,
    ),
    Case::new(
        "stream.sync_after_destroy",
        "cuCtxSynchronize waits for the work of a destroyed stream.",
        sync_after_destroy,
    ),
    Case::new("stream.destroy_default", "Default streams are not destroyed.", destroy_default),
    Case::new("stream.host_function", "A host function runs in its place, once.", host_function),
    Case::new(
        "stream.event_destroyed_early",
        "An event may be destroyed while a stream waits for it.",
        event_destroyed_early,
    ),
    Case::new(
        "stream.sync_waits_for_one",
        "cuStreamSynchronize does not wait for another non-blocking stream.",
        sync_waits_for_one,
    ),
];

fn flags(cx: &Cx) -> Outcome {
    let (plain, other) = (cx.stream(0)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    same("default", cx.stream_flags(*plain)?, flag::STREAM_DEFAULT)?;
    same("non-blocking", cx.stream_flags(*other)?, flag::STREAM_NON_BLOCKING)?;
    refused("flags 2", cx.stream_create(2), Code::INVALID_VALUE)
}

fn context(cx: &Cx) -> Outcome {
    let stream = cx.stream(0)?;
    for on in [*stream, Stream::NULL, Stream::LEGACY, Stream::PER_THREAD] {
        same("context", cx.stream_context(on)?, cx.context)?;
    }
    Ok(())
}

fn ids(cx: &Cx) -> Outcome {
    let (a, b) = (cx.stream(0)?, cx.stream(0)?);
    holds("they differ", cx.stream_id(*a)? != cx.stream_id(*b)?)?;
    same("and stay", cx.stream_id(*a)?, cx.stream_id(*a)?)?;
    same("null is legacy", cx.stream_id(Stream::NULL)?, cx.stream_id(Stream::LEGACY)?)
}

fn priority(cx: &Cx) -> Outcome {
    let stream = cx.stream_create_with_priority(flag::STREAM_NON_BLOCKING, -1000)?;
    let said = cx.stream_priority(stream);
    cx.stream_destroy(stream)?;
    holds("in the range", (-10..=0).contains(&said?))
}

fn query(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    same("idle", cx.stream_query(*stream), Ok(()))?;
    let gate = cx.hold(*stream)?;
    // The first question only: asking often makes lazy drivers work.
    refused("held", cx.stream_query(*stream), Code::NOT_READY)?;
    gate.open();
    holds("it passes", soon(|| cx.stream_query(*stream).is_ok()))
}

fn in_order(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    for value in 0..50 {
        cx.set_d8_async(buffer.at, value, 4096, *stream)?;
    }
    cx.stream_synchronize(*stream)?;
    all_same("the last one", &cx.read::<u8>(buffer.at, 4096)?, 49)
}

fn destroy_busy(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    cx.set_d8(buffer.at, 0, 4096)?;
    let stream = cx.stream_create(flag::STREAM_NON_BLOCKING)?;
    let event = cx.event()?;
    let gate = match cx.hold(stream) {
        Ok(gate) => gate,
        Err(skip) => {
            cx.stream_destroy(stream)?;
            return Err(skip);
        }
    };
    cx.set_d8_async(buffer.at, 1, 4096, stream)?;
    cx.event_record(*event, stream)?;
    cx.stream_destroy(stream)?;
    refused("the work still waits", cx.event_query(*event), Code::NOT_READY)?;
    gate.open();
    cx.event_synchronize(*event)?;
    all_same("the work ran", &cx.read::<u8>(buffer.at, 4096)?, 1)
}

fn sync_after_destroy(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    let event = cx.event()?;
    let stream = cx.stream_create(flag::STREAM_NON_BLOCKING)?;
    if let Ok(gate) = cx.hold(stream) {
        gate.open_after(Duration::from_millis(30));
    }
    cx.set_d8_async(buffer.at, 6, 4096, stream)?;
    cx.event_record(*event, stream)?;
    cx.stream_destroy(stream)?;
    cx.ctx_synchronize()?;
    same("the work has run", cx.event_query(*event), Ok(()))
}

fn destroy_default(cx: &Cx) -> Outcome {
    for on in [Stream::NULL, Stream::LEGACY, Stream::PER_THREAD] {
        match cx.stream_destroy(on) {
            Err(Code::INVALID_HANDLE | Code::INVALID_VALUE | Code::NOT_PERMITTED) => {}
            other => refused("destroy", other, Code::INVALID_HANDLE)?,
        }
    }
    Ok(cx.stream_synchronize(Stream::NULL)?)
}

unsafe extern "C" fn count(data: *mut c_void) {
    // SAFETY: the counter of `host_function`, which outlives the stream's work.
    unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

fn host_function(cx: &Cx) -> Outcome {
    let calls = AtomicU32::new(0);
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let data = (&raw const calls).cast_mut().cast();
    // SAFETY: `calls` outlives the synchronise below.
    unsafe { cx.launch_host_func(*stream, count, data) }?;
    cx.stream_synchronize(*stream)?;
    same("calls", calls.load(Ordering::SeqCst), 1)
}

fn event_destroyed_early(cx: &Cx) -> Outcome {
    let (from, to) = (cx.buffer(4096)?, cx.buffer(4096)?);
    cx.set_d8(from.at, 0, 4096)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    let event = cx.event_create(flag::EVENT_DISABLE_TIMING)?;
    if let Ok(gate) = cx.hold(*a) {
        gate.open_after(Duration::from_millis(20));
    }
    cx.set_d8_async(from.at, 8, 4096, *a)?;
    cx.event_record(event, *a)?;
    cx.stream_wait_event(*b, event)?;
    cx.copy_d2d_async(to.at, from.at, 4096, *b)?;
    cx.event_destroy(event)?;
    cx.stream_synchronize(*b)?;
    all_same("it waited all the same", &cx.read::<u8>(to.at, 4096)?, 8)
}

fn sync_waits_for_one(cx: &Cx) -> Outcome {
    cx.streams_are_independent()?;
    let buffer = cx.buffer(4096)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    let _gate = cx.hold(*a)?;
    cx.set_d8_async(buffer.at, 2, 4096, *b)?;
    cx.stream_synchronize(*b)?;
    refused("the other is held", cx.stream_query(*a), Code::NOT_READY)
}
