//! `coldpress stat`, `off` and `on` against this very process, which plays a program under
//! coldpress.

use super::{coldpress, output, stderr, stdout};
use coldpress::stats::{self, Command};
use serde_json::Value;
use std::sync::Once;
use std::time::Duration;

/// Gives this process a page with known numbers on it.
fn page() -> &'static stats::Page {
    static OPEN: Once = Once::new();
    OPEN.call_once(|| {
        stats::open().expect("a page");
        let page = stats::page();
        page.evictions.add(3);
        page.evicted_bytes.add(3 << 20);
        page.restore_latency.record(Duration::from_micros(900));
        page.reasons[1].set("IPC");
        page.device_count.set(1);
        page.devices[0].name.set("Sim");
        page.devices[0].card.set(1 << 30);
        page.devices[0].limit.set(1 << 29);
        page.devices[0].charged.set(1 << 28);
        page.devices[0].pinned[1].set(1 << 20);
    });
    stats::page()
}

fn pid() -> String {
    std::process::id().to_string()
}

#[test]
fn json_is_versioned_and_complete() {
    page();
    let out = output(&mut coldpress(&["stat", &pid(), "--json"]));
    assert!(out.status.success(), "{}", stderr(&out));
    let document: Value = serde_json::from_str(&stdout(&out)).expect("JSON");
    assert_eq!((&document["schema"], &document["version"]), (&"coldpress.stat".into(), &1.into()));
    let process = &document["processes"][0];
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    // Renaming or removing one of these is a new version of the schema.
    assert_eq!(
        keys(process),
        "command_line counters cuda_version devices driver eviction_off host launch_waits library \
         logical_bytes mode passthrough pid restore_latency uptime_ns user_off"
    );
    assert_eq!(
        keys(&process["counters"]),
        "allocations bytes_verified coded_bytes evict_mismatches evicted_bytes eviction_ns evictions frees \
         launches oom_avoided oom_returned over_limit_launches pages_const pages_fields pages_ints \
         pages_raw pages_zero poisoned pool_converted \
         refused_fence_timeout refused_no_host_memory refused_nothing_cold refused_scan_hit \
         restored_bytes restores scan_bytes scan_ns scans \
         store_compactions stored_bytes verify_failures verify_repaired"
    );
    assert_eq!(
        keys(&process["devices"][0]),
        "card_bytes charged_bytes compressed_bytes index limbo_bytes limit_bytes name peak_bytes \
         pinned pooled_bytes resident_bytes slab_bytes spilled_bytes \
         store_bytes store_used_bytes"
    );
    assert_eq!(keys(&process["host"]), "held_bytes limit_bytes used_bytes");
    assert_eq!(keys(&process["launch_waits"]), "buckets count p50_ns p99_ns sum_ns");
    assert_eq!(process["pid"], std::process::id());
    assert_eq!(process["counters"]["evictions"], 3);
    assert_eq!(process["devices"][0]["pinned"][0]["reason"], "IPC");
    assert_eq!(process["restore_latency"]["buckets"][0]["below_ns"], 1 << 20);
}

#[test]
fn the_reference_describes_every_field() {
    page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/statistics.md");
    let reference = std::fs::read_to_string(path).expect("the page");
    let out = output(&mut coldpress(&["stat", &pid(), "--json"]));
    let document: Value = serde_json::from_str(&stdout(&out)).expect("JSON");
    let mut todo = vec![&document];
    while let Some(value) = todo.pop() {
        if let Some(fields) = value.as_object() {
            for key in
                fields.keys().filter(|k| !["schema", "version", "processes"].contains(&&***k))
            {
                let named = reference.contains(&format!("`{key}`"))
                    || reference.contains(&format!("`{key}[]`"));
                assert!(named, "{key} is not in {path}");
            }
            todo.extend(fields.values());
        }
        todo.extend(value.as_array().into_iter().flatten());
    }
}

#[test]
fn text_for_people() {
    page();
    let out = output(&mut coldpress(&["stat", &pid()]));
    let text = stdout(&out);
    for line in [
        "  device 0 Sim: 256 MiB of 512 MiB (peak 0 B, card 1 GiB)",
        "    pinned 1 MiB (IPC)",
        "  evicted 3 MiB in 3, restored 0 B in 0 (p50 1.0 ms, p99 1.0 ms); 0 waits, 0 ns together",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn watching_ends_with_the_process() {
    let mut child = std::process::Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", "stat::lives_for_a_moment", "--ignored"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let pid = child.id();
    while stats::find(pid).expect("readable").is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let out = output(&mut coldpress(&["stat", &pid.to_string(), "--json", "--watch=0.05"]));
    child.wait().expect("ends");
    assert!(out.status.success());
    let text = stdout(&out);
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let document: Value = serde_json::from_str(line).expect("one document a line");
        assert_eq!(document["processes"][0]["pid"], pid);
    }
}

#[test]
#[ignore = "played by another test in a process of its own"]
fn lives_for_a_moment() {
    stats::open().expect("a page");
    std::thread::sleep(Duration::from_millis(300));
    stats::close();
}

#[test]
fn a_process_of_nobody() {
    let out = output(&mut coldpress(&["stat", "4194304"]));
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(
        stderr(&out),
        "coldpress: process 4194304 does not run under coldpress, or has not initialised CUDA yet\n"
    );
    assert_eq!(output(&mut coldpress(&["off", "4194304"])).status.code(), Some(1));
}

#[test]
fn off_and_on_wait_for_the_answer() {
    let page = page();
    // Nobody serves requests yet.
    let out = output(&mut coldpress(&["off", &pid(), "--timeout", "0.05"]));
    assert_eq!(out.status.code(), Some(1));
    let text = stderr(&out);
    assert!(text.contains("no answer from process"), "{text}");

    let serve = |expected, done| {
        std::thread::spawn(move || {
            loop {
                match page.control_request() {
                    Some(request) if request.command == expected => {
                        return page.control_ack(request.number, done);
                    }
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        })
    };
    // The request that nobody served is still there; the thread answers it, and the next.
    for (name, command, done, code, text) in [
        ("off", Command::Off, true, 0, "everything restored, eviction off"),
        ("on", Command::On, true, 0, "eviction on"),
        ("off", Command::Off, false, 1, "has no memory to restore everything now"),
    ] {
        if let Some(old) = page.control_request() {
            page.control_ack(old.number, true);
        }
        let server = serve(command, done);
        let out = output(&mut coldpress(&[name, &pid()]));
        server.join().expect("served");
        assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
        assert!(stderr(&out).contains(text), "{}", stderr(&out));
    }
}
