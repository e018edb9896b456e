//! Events.

use crate::case::{Case, Outcome, all_same, holds, refused, same};
use crate::context::{Cx, soon};
use cuda_client::{Code, Event, Stream, flag};

pub const CASES: &[Case] = &[
    Case::new("event.flags", "Unknown flags are refused.", flags),
    Case::new("event.never_recorded", "An event never recorded is complete.", never_recorded),
    Case::new("event.query", "An event behind held work is not ready, then it is.", query),
    Case::new("event.re_record", "Recording again moves the event.", re_record),
    Case::new(
        "event.wait_captures",
        "A wait is for what the event stood for at the call, not for a later recording.",
        wait_captures,
    ),
    Case::new("event.wait_never_recorded", "Waiting for an event never recorded is nothing.", idle),
    Case::new("event.elapsed", "Two timed events tell a time that is not negative.", elapsed),
    Case::new("event.elapsed_pending", "An event behind held work has no time yet.", pending),
    Case::new("event.elapsed_untimed", "Events without timing have none.", untimed),
    Case::new("event.elapsed_unrecorded", "Events never recorded have none.", unrecorded),
    Case::new("event.null", "The null event is refused.", null),
    Case::new(
        "event.sync_covers_earlier",
        "An event is behind all earlier work of its stream.",
        covers_earlier,
    ),
    Case::new(
        "event.with_flags",
        "cuEventRecordWithFlags without flags records as cuEventRecord does.",
        with_flags,
    ),
];

fn flags(cx: &Cx) -> Outcome {
    refused("flags 64", cx.event_create(64), Code::INVALID_VALUE)
}

fn never_recorded(cx: &Cx) -> Outcome {
    let event = cx.event()?;
    same("query", cx.event_query(*event), Ok(()))?;
    Ok(cx.event_synchronize(*event)?)
}

fn query(cx: &Cx) -> Outcome {
    let event = cx.event()?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let gate = cx.hold(*stream)?;
    cx.event_record(*event, *stream)?;
    refused("held", cx.event_query(*event), Code::NOT_READY)?;
    gate.open();
    holds("it passes", soon(|| cx.event_query(*event).is_ok()))
}

fn re_record(cx: &Cx) -> Outcome {
    let event = cx.event()?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    cx.event_record(*event, *stream)?;
    cx.event_synchronize(*event)?;
    let gate = cx.hold(*stream)?;
    cx.event_record(*event, *stream)?;
    refused("it moved", cx.event_query(*event), Code::NOT_READY)?;
    gate.open();
    Ok(cx.event_synchronize(*event)?)
}

fn wait_captures(cx: &Cx) -> Outcome {
    cx.streams_are_independent()?;
    let buffer = cx.buffer(4096)?;
    let (a, b) = (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    let event = cx.event()?;
    cx.event_record(*event, *a)?;
    cx.stream_wait_event(*b, *event)?;
    let _gate = cx.hold(*a)?;
    cx.event_record(*event, *a)?;
    cx.set_d8_async(buffer.at, 3, 4096, *b)?;
    cx.stream_synchronize(*b)?;
    refused("the later recording is held", cx.event_query(*event), Code::NOT_READY)
}

fn idle(cx: &Cx) -> Outcome {
    let event = cx.event()?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    cx.stream_wait_event(*stream, *event)?;
    Ok(cx.stream_synchronize(*stream)?)
}

/// Two events with timing around a memset; the caller destroys them.
fn timed(cx: &Cx) -> Result<(Event, Event), crate::case::Stop> {
    let buffer = cx.buffer(1 << 20)?;
    let (start, end) = (cx.event_create(0)?, cx.event_create(0)?);
    cx.event_record(start, Stream::NULL)?;
    cx.set_d8_async(buffer.at, 1, 1 << 20, Stream::NULL)?;
    cx.event_record(end, Stream::NULL)?;
    cx.event_synchronize(end)?;
    Ok((start, end))
}

fn elapsed(cx: &Cx) -> Outcome {
    let (start, end) = timed(cx)?;
    let forward = cx.event_elapsed(start, end);
    let nothing = cx.event_elapsed(start, start);
    cx.event_destroy(start)?;
    cx.event_destroy(end)?;
    holds("not negative", forward? >= 0.0)?;
    same("from itself", nothing?, 0.0)
}

fn pending(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let (start, end) = (cx.event_create(0)?, cx.event_create(0)?);
    cx.event_record(start, *stream)?;
    cx.event_synchronize(start)?;
    let gate = cx.hold(*stream)?;
    cx.event_record(end, *stream)?;
    let early = cx.event_elapsed(start, end);
    gate.open();
    cx.event_synchronize(end)?;
    cx.event_destroy(start)?;
    cx.event_destroy(end)?;
    refused("early", early, Code::NOT_READY)
}

fn untimed(cx: &Cx) -> Outcome {
    let (start, end) = (cx.event()?, cx.event()?);
    cx.event_record(*start, Stream::NULL)?;
    cx.event_record(*end, Stream::NULL)?;
    cx.event_synchronize(*end)?;
    refused("elapsed", cx.event_elapsed(*start, *end), Code::INVALID_HANDLE)
}

fn unrecorded(cx: &Cx) -> Outcome {
    let (start, end) = (cx.event_create(0)?, cx.event_create(0)?);
    let said = cx.event_elapsed(start, end);
    cx.event_destroy(start)?;
    cx.event_destroy(end)?;
    refused("elapsed", said, Code::INVALID_HANDLE)
}

fn null(cx: &Cx) -> Outcome {
    match cx.event_record(Event::NULL, Stream::NULL) {
        Err(Code::INVALID_HANDLE | Code::INVALID_VALUE) => Ok(()),
        other => refused("record", other, Code::INVALID_HANDLE),
    }
}

fn covers_earlier(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    cx.set_d8(buffer.at, 0, 4096)?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let event = cx.event()?;
    for value in 1..20 {
        cx.set_d8_async(buffer.at, value, 4096, *stream)?;
    }
    cx.event_record(*event, *stream)?;
    cx.event_synchronize(*event)?;
    all_same("the last one", &cx.read::<u8>(buffer.at, 4096)?, 19)
}

fn with_flags(cx: &Cx) -> Outcome {
    let event = cx.event()?;
    cx.event_record_with_flags(*event, Stream::NULL, 0)?;
    cx.event_synchronize(*event)?;
    same("query", cx.event_query(*event), Ok(()))
}
