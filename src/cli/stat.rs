//! `coldpress stat`: what the statistics pages of running processes say.

use super::{Failure, Result, args, print, print_json, say, switch};
use coldpress::stats::{self, COUNTERS, DevicePage, Histogram, Page, REASONS, View};
use coldpress::units::{Bytes, Span};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::process::ExitCode;

/// The JSON document. Fields are added within a version; renaming or removing one changes it.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    version: u32,
    processes: Vec<Process>,
}

#[derive(Serialize)]
struct Process {
    pid: u64,
    command_line: String,
    library: String,
    mode: String,
    driver: Option<String>,
    cuda_version: u64,
    uptime_ns: u64,
    passthrough: Option<String>,
    eviction_off: Option<String>,
    user_off: bool,
    logical_bytes: u64,
    devices: Vec<Device>,
    host: Host,
    counters: Map<String, Value>,
    restore_latency: Latency,
    launch_waits: Latency,
}

#[derive(Serialize)]
struct Device {
    index: usize,
    name: String,
    card_bytes: u64,
    limit_bytes: u64,
    charged_bytes: u64,
    peak_bytes: u64,
    resident_bytes: u64,
    compressed_bytes: u64,
    spilled_bytes: u64,
    store_bytes: u64,
    store_used_bytes: u64,
    pooled_bytes: u64,
    limbo_bytes: u64,
    slab_bytes: u64,
    pinned: Vec<Pinned>,
}

#[derive(Serialize)]
struct Pinned {
    reason: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Host {
    held_bytes: u64,
    used_bytes: u64,
    limit_bytes: u64,
}

#[derive(Serialize)]
struct Latency {
    count: u64,
    sum_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    /// How many took less than `below_ns` and no less than half of it.
    buckets: Vec<Bucket>,
}

#[derive(Serialize)]
struct Bucket {
    below_ns: u64,
    count: u64,
}

pub fn stat(args: &args::Stat) -> Result {
    let Some(pause) = args.watch else { return once(args) };
    loop {
        match once(args) {
            // The process that was watched is gone: that is how watching ends.
            Err(e) if args.pid.is_some() => {
                say(&e.text);
                return Ok(ExitCode::SUCCESS);
            }
            Err(e) => return Err(e),
            Ok(_) => std::thread::sleep(pause),
        }
    }
}

fn once(args: &args::Stat) -> Result {
    let views: Vec<View> = match args.pid {
        Some(pid) => vec![switch::open(pid)?],
        None => stats::list().map_err(Failure::failed)?,
    };
    if args.json {
        let processes = views.iter().map(|v| process(v)).collect();
        let document = Document { schema: "coldpress.stat", version: 1, processes };
        if args.watch.is_none() {
            return print_json(&document);
        }
        // One document a line, for programs that read along.
        let line = serde_json::to_string(&document).map_err(Failure::failed)?;
        return print(&format!("{line}\n"));
    }
    if views.is_empty() {
        say("no process of this user runs under coldpress");
    }
    let mut out = String::new();
    for view in &views {
        // Writing to a String cannot fail.
        let _ = describe(&mut out, &process(view));
    }
    print(&out)
}

fn process(page: &Page) -> Process {
    let devices = page.used_devices().iter().enumerate().map(|(i, d)| device(page, i, d));
    Process {
        pid: page.pid.get(),
        command_line: page.command_line.get().unwrap_or_default(),
        library: page.library.get().unwrap_or_default(),
        mode: page.mode.get().unwrap_or_default(),
        driver: page.driver.get(),
        cuda_version: page.cuda_version.get(),
        uptime_ns: stats::now_ns().saturating_sub(page.opened_ns.get()),
        passthrough: page.passthrough.get(),
        eviction_off: page.eviction_off.get(),
        user_off: page.user_off.get() != 0,
        logical_bytes: page.logical.get(),
        devices: devices.collect(),
        host: Host {
            held_bytes: page.host_bytes.get(),
            used_bytes: page.host_used.get(),
            limit_bytes: page.host_limit.get(),
        },
        counters: COUNTERS
            .iter()
            .map(|(name, at)| ((*name).into(), at(page).get().into()))
            .collect(),
        restore_latency: latency(&page.restore_latency),
        launch_waits: latency(&page.launch_waits),
    }
}

fn device(page: &Page, index: usize, d: &DevicePage) -> Device {
    let pinned = (0..REASONS).filter(|&i| d.pinned[i].get() > 0).map(|i| Pinned {
        reason: page.reasons[i].get().unwrap_or_else(|| format!("reason {i}")),
        bytes: d.pinned[i].get(),
    });
    Device {
        index,
        name: d.name.get().unwrap_or_default(),
        card_bytes: d.card.get(),
        limit_bytes: d.limit.get(),
        charged_bytes: d.charged.get(),
        peak_bytes: d.peak.get(),
        resident_bytes: d.resident.get(),
        compressed_bytes: d.compressed.get(),
        spilled_bytes: d.spilled.get(),
        store_bytes: d.store.get(),
        store_used_bytes: d.store_used.get(),
        pooled_bytes: d.pooled.get(),
        limbo_bytes: d.limbo.get(),
        slab_bytes: d.slabs.get(),
        pinned: pinned.collect(),
    }
}

fn latency(histogram: &Histogram) -> Latency {
    let buckets = histogram.buckets();
    let filled = buckets.iter().enumerate().filter(|(_, n)| **n > 0);
    Latency {
        count: buckets.iter().sum(),
        sum_ns: histogram.sum_ns(),
        p50_ns: histogram.quantile_ns(50),
        p99_ns: histogram.quantile_ns(99),
        buckets: filled.map(|(i, &count)| Bucket { below_ns: 2 << i, count }).collect(),
    }
}

fn describe(out: &mut String, p: &Process) -> std::fmt::Result {
    let counter = |name: &str| p.counters.get(name).and_then(Value::as_u64).unwrap_or(0);
    writeln!(out, "{} {}", p.pid, p.command_line)?;
    let state = if let Some(why) = &p.passthrough {
        format!("manages nothing: {why}")
    } else if let Some(why) = &p.eviction_off {
        format!("eviction off: {why}")
    } else if p.user_off {
        format!("eviction off: coldpress off {}", p.pid)
    } else {
        "eviction on".to_owned()
    };
    writeln!(out, "  {}, up {}, {state}", p.mode, Span::from_nanos(p.uptime_ns))?;
    for d in &p.devices {
        writeln!(
            out,
            "  device {} {}: {} of {} (peak {}, card {})",
            d.index,
            d.name,
            Bytes(d.charged_bytes),
            Bytes(d.limit_bytes),
            Bytes(d.peak_bytes),
            Bytes(d.card_bytes)
        )?;
        let parts = [
            ("resident", d.resident_bytes),
            ("compressed", d.compressed_bytes),
            ("spilled", d.spilled_bytes),
            ("store", d.store_bytes),
            ("pooled", d.pooled_bytes),
            ("limbo", d.limbo_bytes),
            ("slabs", d.slab_bytes),
        ];
        let pinned = d.pinned.iter().map(|r| (r.reason.as_str(), r.bytes));
        let shown: Vec<String> = (parts.into_iter().filter(|p| p.1 > 0))
            .map(|(name, bytes)| format!("{name} {}", Bytes(bytes)))
            .chain(pinned.map(|(why, bytes)| format!("pinned {} ({why})", Bytes(bytes))))
            .collect();
        if !shown.is_empty() {
            writeln!(out, "    {}", shown.join(", "))?;
        }
    }
    writeln!(
        out,
        "  {} allocations, {} frees, {} live; {} out of memory avoided, {} returned",
        counter("allocations"),
        counter("frees"),
        Bytes(p.logical_bytes),
        counter("oom_avoided"),
        counter("oom_returned")
    )?;
    writeln!(
        out,
        "  evicted {} in {}, restored {} in {} (p50 {}, p99 {}); {} waits, {} together",
        Bytes(counter("evicted_bytes")),
        counter("evictions"),
        Bytes(counter("restored_bytes")),
        counter("restores"),
        Span::from_nanos(p.restore_latency.p50_ns),
        Span::from_nanos(p.restore_latency.p99_ns),
        p.launch_waits.count,
        Span::from_nanos(p.launch_waits.sum_ns)
    )?;
    if counter("coded_bytes") > 0 {
        let modes = ["zero", "const", "raw", "fields", "ints"]
            .map(|mode| format!("{mode} {}", counter(&format!("pages_{mode}"))));
        writeln!(
            out,
            "  coded {} to {} ({:.0} %); pages: {}",
            Bytes(counter("coded_bytes")),
            Bytes(counter("stored_bytes")),
            100.0 * counter("stored_bytes") as f64 / counter("coded_bytes") as f64,
            modes.join(", ")
        )?;
    }
    writeln!(
        out,
        "  verified {}, {} failed; host memory {} of {}",
        Bytes(counter("bytes_verified")),
        counter("verify_failures"),
        Bytes(p.host.held_bytes),
        Bytes(p.host.limit_bytes)
    )
}
