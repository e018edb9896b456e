//! Mapping while kernels run: how long the host waits, how long kernels take.
//!
//! Two loads: one kernel after another that streams through memory, and single long kernels
//! bound by the latency of dependent reads. Another thread maps, sets access, uses nothing and
//! unmaps elsewhere. Each kernel is timed by events, so one that was held up shows.

use super::Times;
use crate::case::Stop;
use crate::context::{Buffer, Cx};
use cuda_client::{Device, Driver, Event, Function, Grid, MemHandle, Stream, flag, params};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STREAMED: usize = 200;
const LONG: usize = 20;

/// Where the other thread maps.
struct Place {
    at: u64,
    bytes: usize,
    handle: MemHandle,
    device: Device,
}

#[derive(Default)]
struct MapTimes {
    map: Times,
    set_access: Times,
    unmap: Times,
}

impl MapTimes {
    fn json(&self) -> Value {
        json!({
            "map": self.map.json(),
            "set_access": self.set_access.json(),
            "unmap": self.unmap.json(),
        })
    }
}

/// What a launch of the load is.
type Launch<'a> = &'a dyn Fn(Stream) -> Result<(), Stop>;

/// Measures both loads with mappings of one granule and of sixteen.
pub fn run(cx: &Cx) -> Result<Value, Stop> {
    let bytes = (cx.mem_info()?.0 / 8).min(1 << 30) & !0xFFF;
    // A kernel on the simulator is a loop on one core: a thousandth of the work will do there.
    let bytes = if cx.is_simulated() { 256 << 10 } else { bytes };
    let (x, y) = (cx.buffer(bytes)?, cx.buffer(bytes)?);
    cx.set_d8(x.at, 1, bytes)?;
    cx.set_d8(y.at, 2, bytes)?;
    let axpy = cx.demo("cp_demo_axpy")?;
    let streaming = |on: Stream| stream_through(cx, axpy, &x, &y, bytes, on);

    let rows = if cx.is_simulated() { 1u32 << 10 } else { 1 << 18 };
    let list = cx.buffer(rows as usize * 16)?;
    let entries: Vec<u64> = (0..rows).flat_map(|_| [x.at, 1024]).collect();
    cx.upload(list.at, &entries)?;
    let gather = cx.demo("cp_demo_gather")?;
    let long = |on: Stream| follow(cx, gather, &y, &list, rows, on);

    let mut loads = Vec::new();
    for (name, launch, launches) in
        [("streaming", &streaming as Launch, STREAMED), ("latency", &long as Launch, LONG)]
    {
        for granules in [1, 16] {
            loads.push(load(cx, name, launch, launches, granules)?);
        }
    }
    Ok(json!({"bytes_of_a_streaming_kernel": 3 * bytes, "loads": loads}))
}

fn stream_through(
    cx: &Cx,
    kernel: Function,
    x: &Buffer,
    y: &Buffer,
    bytes: usize,
    on: Stream,
) -> Result<(), Stop> {
    let (to, words, from, from_words, a) =
        (y.at, (bytes / 4) as u64, x.at, (bytes / 4) as u64, 3u32);
    // SAFETY: the kernel's five parameters; both buffers are `bytes` long.
    Ok(unsafe {
        let grid = Grid::cover(bytes / 4, 256);
        cx.launch(kernel, grid, on, params!(to, words, from, from_words, a))
    }?)
}

fn follow(
    cx: &Cx,
    kernel: Function,
    out: &Buffer,
    list: &Buffer,
    count: u32,
    on: Stream,
) -> Result<(), Stop> {
    let (to, words, rows) = (out.at, 32u64, list.at);
    // SAFETY: the kernel's four parameters; the list holds `count` rows.
    Ok(unsafe { cx.launch(kernel, Grid::line(1, 32), on, params!(to, words, rows, count)) }?)
}

fn load(
    cx: &Cx,
    name: &str,
    launch: Launch,
    launches: usize,
    granules: usize,
) -> Result<Value, Stop> {
    let bytes = granules * cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let place = Place { at, bytes, handle: cx.create(bytes, cx.device)?, device: cx.device };
    let mut idle = MapTimes::default();
    for _ in 0..50 {
        cycle(&cx.driver, &place, &mut idle)?;
    }
    kernels(cx, launch, launches.div_ceil(4))?;
    let alone = kernels(cx, launch, launches)?;

    let stop = AtomicBool::new(false);
    let (busy, beside) = std::thread::scope(|scope| {
        let mapper = scope.spawn(|| map_until(&cx.driver, cx.context, &place, &stop));
        let beside = kernels(cx, launch, launches);
        stop.store(true, Ordering::Release);
        (mapper.join(), beside)
    });
    let (busy, beside) = (busy.map_err(|_| Stop::fail("the thread panicked"))??, beside?);
    cx.release(place.handle)?;
    cx.address_free(at, bytes)?;

    let total = |times: &Times| times.0.iter().sum::<u64>();
    let slower = total(&beside).saturating_sub(total(&alone));
    let cycles = busy.map.0.len().max(1) as u64;
    Ok(json!({
        "load": name,
        "mapped_bytes": bytes,
        "host_calls_on_an_idle_device": idle.json(),
        "host_calls_beside_kernels": busy.json(),
        "kernels_alone": alone.json(),
        "kernels_beside_mapping": beside.json(),
        "kernel_time_added_per_cycle_ns": slower / cycles,
    }))
}

fn cycle(driver: &Driver, place: &Place, times: &mut MapTimes) -> cuda_client::Result<()> {
    times.map.time(|| driver.map(place.at, place.bytes, place.handle))?;
    times.set_access.time(|| driver.allow(place.at, place.bytes, place.device))?;
    times.unmap.time(|| driver.unmap(place.at, place.bytes))
}

fn map_until(
    driver: &Driver,
    context: cuda_client::Context,
    place: &Place,
    stop: &AtomicBool,
) -> Result<MapTimes, Stop> {
    driver.ctx_set_current(context)?;
    let mut times = MapTimes::default();
    while !stop.load(Ordering::Acquire) {
        cycle(driver, place, &mut times)?;
    }
    Ok(times)
}

/// The device time of each of `launches` kernels, one after another.
fn kernels(cx: &Cx, launch: Launch, launches: usize) -> Result<Times, Stop> {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let events: Vec<Event> =
        (0..=launches).map(|_| cx.event_create(flag::EVENT_DEFAULT)).collect::<Result<_, _>>()?;
    cx.event_record(events[0], *stream)?;
    for &event in &events[1..] {
        launch(*stream)?;
        cx.event_record(event, *stream)?;
    }
    cx.stream_synchronize(*stream)?;
    let mut times = Times::default();
    for pair in events.windows(2) {
        let milliseconds = cx.event_elapsed(pair[0], pair[1])?;
        times.push(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3));
    }
    for event in events {
        cx.event_destroy(event)?;
    }
    Ok(times)
}
