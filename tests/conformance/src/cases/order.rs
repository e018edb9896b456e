//! Order between streams: the legacy stream, per-thread default streams, event waits.

use crate::case::{Case, Outcome, Stop, all_same, refused, same};
use crate::context::{Cx, Gate};
use cuda_client::{Code, DevicePtr, Lookup, Stream, flag};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case::new(
        "order.legacy_waits",
        "Work of the legacy stream waits for earlier work of blocking streams.",
        legacy_waits,
    ),
    Case::new(
        "order.blocking_waits",
        "Work of a blocking stream waits for earlier work of the legacy stream.",
        blocking_waits,
    ),
    Case::new(
        "order.through_legacy",
        "Two blocking streams are ordered by legacy work between them.",
        through_legacy,
    ),
    Case::new(
        "order.non_blocking_free",
        "Legacy work does not wait for a non-blocking stream.",
        non_blocking_free,
    ),
    Case::new(
        "order.plain_copy_waits",
        "A plain copy waits for blocking streams: it is legacy work.",
        plain_copy_waits,
    ),
    Case::new(
        "order.per_thread_is_blocking",
        "The legacy stream waits for per-thread default streams.",
        per_thread_is_blocking,
    ),
    Case::new(
        "order.per_thread_apart",
        "Per-thread default streams of two threads are independent.",
        per_thread_apart,
    ),
    Case::new(
        "order.per_thread_null",
        "In per-thread variants the null stream is the thread's own.",
        per_thread_null,
    ),
    Case::new(
        "order.wait_event",
        "A stream waits for the work before an event of another.",
        wait_event,
    ),
    Case::new(
        "order.ctx_event_covers",
        "An event of the context covers every stream of it, per-thread ones too.",
        ctx_event_covers,
    ),
    Case::new(
        "order.ctx_wait_event",
        "Later work of every stream waits for the event a context waits for.",
        ctx_wait_event,
    ),
];

const BYTES: usize = 4096;

/// A stream that writes `value` once a gate has opened, and another that copies.
fn write_later(cx: &Cx, at: DevicePtr, value: u8, on: Stream) -> Result<(), Stop> {
    if let Ok(gate) = cx.hold(on) {
        gate.open_after(Duration::from_millis(20));
    }
    Ok(cx.set_d8_async(at, value, BYTES, on)?)
}

fn ordered(cx: &Cx, first: Stream, second: Stream) -> Outcome {
    let (from, to) = (cx.buffer(BYTES)?, cx.buffer(BYTES)?);
    cx.set_d8(from.at, 0, BYTES)?;
    write_later(cx, from.at, 7, first)?;
    cx.copy_d2d_async(to.at, from.at, BYTES, second)?;
    cx.stream_synchronize(second)?;
    let seen = cx.read::<u8>(to.at, BYTES);
    cx.ctx_synchronize()?;
    all_same("the copy came after the write", &seen?, 7)
}

fn legacy_waits(cx: &Cx) -> Outcome {
    let stream = cx.stream(0)?;
    ordered(cx, *stream, Stream::LEGACY)
}

fn blocking_waits(cx: &Cx) -> Outcome {
    let stream = cx.stream(0)?;
    ordered(cx, Stream::LEGACY, *stream)
}

fn through_legacy(cx: &Cx) -> Outcome {
    let (from, between, to) = (cx.buffer(BYTES)?, cx.buffer(BYTES)?, cx.buffer(BYTES)?);
    cx.set_d8(from.at, 0, BYTES)?;
    let (a, b) = (cx.stream(0)?, cx.stream(0)?);
    write_later(cx, from.at, 5, *a)?;
    cx.set_d8_async(between.at, 1, BYTES, Stream::LEGACY)?;
    cx.copy_d2d_async(to.at, from.at, BYTES, *b)?;
    cx.stream_synchronize(*b)?;
    all_same("ordered", &cx.read::<u8>(to.at, BYTES)?, 5)
}

fn non_blocking_free(cx: &Cx) -> Outcome {
    cx.streams_are_independent()?;
    let buffer = cx.buffer(BYTES)?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let _gate = cx.hold(*stream)?;
    cx.set_d8_async(buffer.at, 1, BYTES, Stream::LEGACY)?;
    cx.stream_synchronize(Stream::LEGACY)?;
    refused("the other is still held", cx.stream_query(*stream), Code::NOT_READY)
}

fn plain_copy_waits(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(BYTES)?;
    cx.set_d8(buffer.at, 0, BYTES)?;
    let stream = cx.stream(0)?;
    write_later(cx, buffer.at, 3, *stream)?;
    all_same("the copy saw the write", &cx.read::<u8>(buffer.at, BYTES)?, 3)
}

fn per_thread_is_blocking(cx: &Cx) -> Outcome {
    ordered(cx, Stream::PER_THREAD, Stream::LEGACY)
}

/// Runs `f` on a thread with the context current.
fn on_thread<T: Send>(
    cx: &Cx,
    f: impl FnOnce(&cuda_client::Driver) -> T + Send,
) -> Result<T, Stop> {
    let (driver, context) = (cx.driver.clone(), cx.context);
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            driver.ctx_set_current(context)?;
            Ok(f(&driver))
        });
        thread.join().unwrap_or_else(|_| Err(Stop::fail("the thread panicked")))
    })
}

fn per_thread_apart(cx: &Cx) -> Outcome {
    cx.streams_are_independent()?;
    let buffer = cx.buffer(BYTES)?;
    let _gate = cx.hold(Stream::PER_THREAD)?;
    let at = buffer.at;
    on_thread(cx, move |driver| {
        driver.set_d8_async(at, 1, BYTES, Stream::PER_THREAD)?;
        driver.stream_synchronize(Stream::PER_THREAD)
    })??;
    refused("ours is still held", cx.stream_query(Stream::PER_THREAD), Code::NOT_READY)
}

fn per_thread_null(cx: &Cx) -> Outcome {
    let per_thread = cx.other(Lookup::PerThreadSymbols)?;
    let buffer = cx.buffer(BYTES)?;
    let gate: Gate = cx.hold(Stream::PER_THREAD)?;
    per_thread.set_d8_async(buffer.at, 9, BYTES, Stream::NULL)?;
    refused("it is held with ours", per_thread.stream_query(Stream::NULL), Code::NOT_READY)?;
    gate.open();
    cx.stream_synchronize(Stream::PER_THREAD)?;
    all_same("it ran in ours", &cx.read::<u8>(buffer.at, BYTES)?, 9)
}

fn wait_event(cx: &Cx) -> Outcome {
    let (from, to) = (cx.buffer(BYTES)?, cx.buffer(BYTES)?);
    cx.set_d8(from.at, 0, BYTES)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    let event = cx.event()?;
    write_later(cx, from.at, 4, *a)?;
    cx.event_record(*event, *a)?;
    cx.stream_wait_event(*b, *event)?;
    cx.copy_d2d_async(to.at, from.at, BYTES, *b)?;
    cx.stream_synchronize(*b)?;
    all_same("the copy came after the write", &cx.read::<u8>(to.at, BYTES)?, 4)
}

fn ctx_event_covers(cx: &Cx) -> Outcome {
    if cx.raw.cuCtxRecordEvent.is_none() {
        return Err(Stop::skip("cuCtxRecordEvent came with 12.5"));
    }
    let buffer = cx.buffer(BYTES)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(0)?);
    let event = cx.event()?;
    for on in [*a, *b, Stream::PER_THREAD, Stream::LEGACY] {
        let gate = cx.hold(on)?;
        cx.ctx_record_event(cx.context, *event)?;
        refused("held back by one stream", cx.event_query(*event), Code::NOT_READY)?;
        gate.open();
        cx.event_synchronize(*event)?;
    }
    // And a stream that nobody can name any more.
    let gone = cx.stream_create(flag::STREAM_NON_BLOCKING)?;
    let gate = cx.hold(gone);
    let set = cx.set_d8_async(buffer.at, 1, BYTES, gone);
    cx.stream_destroy(gone)?;
    set?;
    cx.ctx_record_event(cx.context, *event)?;
    refused("held back by a destroyed stream", cx.event_query(*event), Code::NOT_READY)?;
    gate?.open();
    Ok(cx.event_synchronize(*event)?)
}

fn ctx_wait_event(cx: &Cx) -> Outcome {
    if cx.raw.cuCtxWaitEvent.is_none() {
        return Err(Stop::skip("cuCtxWaitEvent came with 12.5"));
    }
    let (from, to) = (cx.buffer(BYTES)?, cx.buffer(BYTES)?);
    cx.set_d8(from.at, 0, BYTES)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    let event = cx.event()?;
    write_later(cx, from.at, 6, *a)?;
    cx.event_record(*event, *a)?;
    cx.ctx_wait_event(cx.context, *event)?;
    cx.copy_d2d_async(to.at, from.at, BYTES, *b)?;
    cx.stream_synchronize(*b)?;
    same("idle", cx.stream_query(*b), Ok(()))?;
    all_same("the copy came after the write", &cx.read::<u8>(to.at, BYTES)?, 6)
}
