//! Which calls a stream capture survives, by capture mode, by calling thread, and with the
//! thread's mode exchanged to RELAXED as coldpress does around its own calls.

use super::said;
use crate::case::Stop;
use crate::context::Cx;
use cuda_client::{Context, Device, DevicePtr, Driver, Event, MemHandle, Stream, flag};
use serde_json::{Value, json};

/// What the calls work on, made before the capture.
struct Things {
    driver: Driver,
    context: Context,
    device: Device,
    image: &'static [u8],
    granule: usize,
    /// Reserved, nothing mapped.
    free_at: DevicePtr,
    handle: MemHandle,
    /// Mapped with access.
    mapped_at: DevicePtr,
    event: Event,
    other_stream: Stream,
    capturing: Stream,
}

type Call = fn(&Things) -> cuda_client::Result<()>;

const CALLS: &[(&str, Call)] = &[
    ("cuMemAddressReserve", |t| {
        let at = t.driver.reserve(t.granule, 0, 0)?;
        t.driver.address_free(at, t.granule)
    }),
    ("cuMemCreate", |t| {
        let handle = t.driver.create(t.granule, t.device)?;
        t.driver.release(handle)
    }),
    ("cuMemMap", |t| t.driver.map(t.free_at, t.granule, t.handle)),
    ("cuMemMap and cuMemSetAccess", |t| {
        t.driver.map(t.free_at, t.granule, t.handle)?;
        t.driver.allow(t.free_at, t.granule, t.device)
    }),
    ("cuMemUnmap", |t| t.driver.unmap(t.mapped_at, t.granule)),
    ("cuMemAlloc", |t| t.driver.mem_alloc(1 << 20).and_then(|at| t.driver.mem_free(at))),
    ("cuMemHostAlloc", |t| {
        let host = t.driver.host_alloc(4096, 0)?;
        // SAFETY: allocated in this call, used by nobody.
        unsafe { t.driver.host_free(host) }
    }),
    ("cuStreamCreate", |t| {
        t.driver.stream_create(flag::STREAM_NON_BLOCKING).and_then(|s| t.driver.stream_destroy(s))
    }),
    ("cuEventCreate", |t| t.driver.event_create(2).and_then(|e| t.driver.event_destroy(e))),
    ("cuEventRecord on another stream", |t| t.driver.event_record(t.event, t.other_stream)),
    ("cuEventQuery of an earlier event", |t| t.driver.event_query(t.event)),
    ("cuEventSynchronize of an earlier event", |t| t.driver.event_synchronize(t.event)),
    ("cuStreamSynchronize of another stream", |t| t.driver.stream_synchronize(t.other_stream)),
    ("cuMemsetD8Async on another stream", |t| {
        t.driver.set_d8_async(t.mapped_at, 1, t.granule, t.other_stream)
    }),
    ("cuCtxRecordEvent", |t| t.driver.ctx_record_event(t.context, t.event)),
    ("cuModuleLoadData", |t| {
        // SAFETY: the suite's own image.
        unsafe { t.driver.module_load(t.image) }.and_then(|m| t.driver.module_unload(m))
    }),
    ("cuStreamGetCaptureInfo", |t| t.driver.stream_capture_info(t.capturing).map(drop)),
    ("cuMemGetInfo", |t| t.driver.mem_info().map(drop)),
    ("cuPointerGetAttribute", |t| {
        t.driver.pointer_attribute(flag::POINTER_MEMORY_TYPE, t.mapped_at).map(drop)
    }),
];

const MODES: &[(&str, u32)] = &[
    ("global", flag::CAPTURE_GLOBAL),
    ("thread_local", flag::CAPTURE_THREAD_LOCAL),
    ("relaxed", flag::CAPTURE_RELAXED),
];

/// Every call under every mode, from both threads, plain and relaxed.
pub fn run(cx: &Cx) -> Result<Value, Stop> {
    let probe = cx.stream(flag::STREAM_NON_BLOCKING)?;
    if let Err(code) = cx.begin_capture(*probe, flag::CAPTURE_RELAXED) {
        return Ok(json!({"capture": said::<()>(&Err(code)), "rows": []}));
    }
    let graph = cx.end_capture(*probe)?;
    if !graph.is_null() {
        cx.graph_destroy(graph)?;
    }
    let mut rows = Vec::new();
    for &(name, call) in CALLS {
        for &(mode_name, mode) in MODES {
            for elsewhere in [false, true] {
                for relaxed in [false, true] {
                    let (result, ended, replay) = one(cx, call, mode, elsewhere, relaxed)?;
                    rows.push(json!({
                        "call": name,
                        "capture_mode": mode_name,
                        "thread": if elsewhere { "another" } else { "capturing" },
                        "exchanged_to_relaxed": relaxed,
                        "result": result,
                        "end_capture": ended,
                        "replay": replay,
                    }));
                }
            }
        }
    }
    Ok(json!({"capture": "ok", "rows": rows}))
}

fn one(
    cx: &Cx,
    call: Call,
    mode: u32,
    elsewhere: bool,
    relaxed: bool,
) -> Result<(String, String, String), Stop> {
    let granule = cx.granule()?;
    let free_at = cx.reserve(granule, 0, 0)?;
    let mapping = cx.mapping(1)?;
    let (buffer, event) = (cx.buffer(4096)?, cx.event()?);
    let (capturing, other) =
        (cx.stream(flag::STREAM_NON_BLOCKING)?, cx.stream(flag::STREAM_NON_BLOCKING)?);
    cx.event_record(*event, *other)?;
    cx.stream_synchronize(*other)?;
    let things = Things {
        driver: cx.driver.clone(),
        context: cx.context,
        device: cx.device,
        image: cx.image(),
        granule,
        free_at,
        handle: cx.create(granule, cx.device)?,
        mapped_at: mapping.at,
        event: *event,
        other_stream: *other,
        capturing: *capturing,
    };
    cx.begin_capture(*capturing, mode)?;
    cx.set_d8_async(buffer.at, 0x42, 4096, *capturing)?;
    let result = if elsewhere {
        let ended = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                things.driver.ctx_set_current(things.context)?;
                exchanged(&things, call, relaxed)
            });
            thread.join()
        });
        ended.map_err(|_| Stop::fail("the thread panicked"))?
    } else {
        exchanged(&things, call, relaxed)
    };
    let ended = cx.end_capture(*capturing);
    let replay = match ended {
        Ok(graph) if !graph.is_null() => {
            let replayed = replay(cx, graph, *capturing);
            cx.graph_destroy(graph)?;
            said(&replayed)
        }
        _ => "not tried".to_owned(),
    };
    // What the call has done is undone; what it has not done is refused.
    let _ = cx.unmap(free_at, granule);
    cx.release(things.handle)?;
    cx.address_free(free_at, granule)?;
    Ok((said(&result), said(&ended), replay))
}

fn exchanged(things: &Things, call: Call, relaxed: bool) -> cuda_client::Result<()> {
    if !relaxed {
        return call(things);
    }
    let before = things.driver.exchange_capture_mode(flag::CAPTURE_RELAXED)?;
    let result = call(things);
    things.driver.exchange_capture_mode(before)?;
    result
}

fn replay(cx: &Cx, graph: cuda_client::Graph, on: Stream) -> cuda_client::Result<()> {
    let exec = cx.graph_instantiate(graph)?;
    let launched = cx.graph_launch(exec, on).and_then(|()| cx.stream_synchronize(on));
    cx.graph_exec_destroy(exec)?;
    launched
}
