//! Host time of the VMM calls by size of handle and number of handles in a range.

use super::Times;
use crate::case::Stop;
use crate::context::Cx;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
/// Longest that one shape may take.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Costs {
    create: Times,
    map: Times,
    set_access_whole: Times,
    unmap_whole: Times,
    set_access_each: Times,
    unmap_each: Times,
    release: Times,
}

/// Measures every shape that fits in a quarter of the free memory.
pub fn run(cx: &Cx) -> Result<Value, Stop> {
    let granule = cx.granule()?;
    let room = cx.mem_info()?.0 / 4;
    let mut rows = Vec::new();
    for granules in [1usize, 4, 16, 32, 128, 512] {
        for count in [1usize, 4, 16, 64, 512] {
            let bytes = granules * granule;
            if bytes.saturating_mul(count) <= room {
                rows.push(shape(cx, bytes, count)?);
            }
        }
    }
    Ok(json!({"granularity_bytes": granule, "shapes": rows}))
}

fn shape(cx: &Cx, bytes: usize, count: usize) -> Result<Value, Stop> {
    let mut costs = Costs::default();
    let all = bytes * count;
    let at = cx.reserve(all, 0, 0)?;
    let started = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && started.elapsed() < PATIENCE {
        round(cx, at, bytes, count, &mut costs)?;
        rounds += 1;
    }
    cx.address_free(at, all)?;
    Ok(json!({
        "handle_bytes": bytes,
        "handles": count,
        "rounds": rounds,
        "create": costs.create.json(),
        "map": costs.map.json(),
        "set_access_of_the_range": costs.set_access_whole.json(),
        "unmap_of_the_range": costs.unmap_whole.json(),
        "set_access_of_each": costs.set_access_each.json(),
        "unmap_of_each": costs.unmap_each.json(),
        "release": costs.release.json(),
    }))
}

/// Everything once with calls over the whole range, once handle by handle.
fn round(cx: &Cx, at: u64, bytes: usize, count: usize, costs: &mut Costs) -> Result<(), Stop> {
    let place = |i: usize| at + (i * bytes) as u64;
    let mut handles = Vec::with_capacity(count);
    for _ in 0..count {
        handles.push(costs.create.time(|| cx.create(bytes, cx.device))?);
    }
    for (i, &handle) in handles.iter().enumerate() {
        costs.map.time(|| cx.map(place(i), bytes, handle))?;
    }
    costs.set_access_whole.time(|| cx.allow(at, bytes * count, cx.device))?;
    cx.set_d8(at, 1, bytes * count)?;
    // A driver may still be at the fill, and does not wait for it before it unmaps.
    cx.ctx_synchronize()?;
    costs.unmap_whole.time(|| cx.unmap(at, bytes * count))?;
    for (i, &handle) in handles.iter().enumerate() {
        cx.map(place(i), bytes, handle)?;
        costs.set_access_each.time(|| cx.allow(place(i), bytes, cx.device))?;
    }
    for (i, &handle) in handles.iter().enumerate() {
        costs.unmap_each.time(|| cx.unmap(place(i), bytes))?;
        costs.release.time(|| cx.release(handle))?;
    }
    Ok(())
}
