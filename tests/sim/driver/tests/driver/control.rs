//! Failure on request, counts, the report and the trace.

use crate::gpu::{Gpu, alone, file, json, status_of};
use cuda_client::{Code, Context, Event, Lookup, Stream};

const NULL: Stream = Stream::NULL;

#[test]
fn calls_fail_on_request() {
    let rules = "cuInit:1=999,cuMemAlloc_v2:2=2,cuStreamCreate:*=304";
    alone(&[("SIMCUDA_FAIL", rules)], || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.init(), Err(Code::UNKNOWN));
        assert_eq!(gpu.device(0), Err(Code::NOT_INITIALIZED), "it had no effect");
        gpu.start(0).expect("the second time");
        assert!(gpu.mem_alloc(64).is_ok());
        assert_eq!(gpu.mem_alloc(64), Err(Code::OUT_OF_MEMORY));
        assert!(gpu.mem_alloc(64).is_ok());
        assert_eq!(gpu.stream_create(0), Err(Code::OPERATING_SYSTEM));
        assert_eq!(gpu.stream_create(0), Err(Code::OPERATING_SYSTEM));
        gpu.fail("");
        let s = gpu.stream_create(0).expect("no rules any more");
        gpu.fail("cuStreamSynchronize:1=700");
        assert_eq!(gpu.stream_synchronize(s), Err(Code::ILLEGAL_ADDRESS));
        assert_eq!(gpu.stream_synchronize(s), Ok(()));
        assert_eq!(gpu.calls("cuStreamSynchronize"), 2);
        assert_eq!(gpu.calls("cuMemAlloc_v2"), 3);
        assert_eq!((gpu.live("streams"), gpu.live("allocations")), (1, 2));
        assert_eq!((gpu.live("handles"), gpu.live("apples")), (0, u64::MAX));
        let called = gpu.called();
        let all = called.lines().map(|name| (name, gpu.calls(name)));
        assert!(all.clone().all(|(_, n)| n > 0), "{called}");
        assert!(called.contains("cuStreamSynchronize\n") && !called.contains("cuMemFree"));
    });
}

/// The positions at which two arrays differ.
fn changed(a: &[u8], b: &[u8]) -> Vec<usize> {
    (0..a.len()).filter(|&i| a[i] != b[i]).collect()
}

#[test]
fn copies_arrive_changed_on_request() {
    let rules = "cuMemcpyHtoD_v2:2=3@4094,cuMemcpyDtoHAsync_v2:1=1";
    for mode in ["async", "eager", "lazy:2"] {
        alone(&[("SIMCUDA_FLIP", rules), ("SIMCUDA_STREAMS", mode)], || {
            let gpu = Gpu::started();
            let at = gpu.mem_alloc(4096).expect("memory");
            let bytes = [7u8; 4096];
            gpu.upload(at, &bytes).expect("written");
            assert_eq!(gpu.read::<u8>(at, 4096).as_deref(), Ok(&bytes[..]));
            gpu.upload(at, &bytes).expect("written");
            let got = gpu.read::<u8>(at, 4096).expect("read");
            assert_eq!(changed(&got, &bytes), [0, 4094, 4095], "it goes round the end");
            gpu.upload(at, &bytes).expect("written");
            let mut down = [0u8; 4096];
            for wanted in [1, 0] {
                // SAFETY: waited for below.
                unsafe { gpu.copy_d2h_async(down.as_mut_ptr().cast(), at, 4096, NULL) }
                    .expect("queued");
                gpu.stream_synchronize(NULL).expect("done");
                assert_eq!(changed(&down, &bytes).len(), wanted);
            }
            gpu.flip("cuMemcpyHtoD_v2:*=4096");
            gpu.upload(at, &bytes).expect("written");
            let got = gpu.read::<u8>(at, 4096).expect("read");
            assert_eq!(changed(&got, &bytes).len(), 4096);
            gpu.flip("");
            gpu.upload(at, &bytes).expect("written");
            assert_eq!(gpu.read::<u8>(at, 4096).as_deref(), Ok(&bytes[..]));
        });
    }
}

#[test]
fn registered_memory_changes_on_request() {
    alone(&[], || {
        let gpu = Gpu::started();
        assert_eq!((gpu.registered(), gpu.flip_host(0, 1)), (0, 0));
        let mut pieces = [vec![1u8; 100], vec![1u8; 100]];
        pieces.sort_by_key(|p| p.as_ptr());
        for piece in &mut pieces {
            // SAFETY: it lives until the process ends.
            unsafe { gpu.host_register(piece.as_mut_ptr().cast(), 100, 0) }.expect("registered");
        }
        assert_eq!(gpu.registered(), 200);
        assert_eq!(gpu.flip_host(98, 4), 4);
        let [first, second] = &pieces;
        assert_eq!(changed(first, &[1; 100]), [98, 99]);
        assert_eq!(changed(second, &[1; 100]), [0, 1]);
        assert_eq!((gpu.flip_host(199, 5), gpu.flip_host(200, 5)), (1, 0));
        std::mem::forget(pieces);
    });
}

#[test]
fn settings_that_make_no_sense_are_said_and_ignored() {
    let settings = [
        ("SIMCUDA_DEVICES", "many"),
        ("SIMCUDA_MEMORY", "12 apples"),
        ("SIMCUDA_STREAMS", "lazy:often"),
        ("SIMCUDA_GRANULARITY", "3MiB"),
        ("SIMCUDA_DELAY", "first:1"),
        ("SIMCUDA_NEWER", "cuMemAlloc"),
        ("SIMCUDA_FAIL", "cuMemAlloc"),
        ("SIMCUDA_FLIP", "cuMemcpyHtoD_v2:1"),
    ];
    let (status, text) = status_of(&settings, || {
        let gpu = Gpu::started();
        assert_eq!(gpu.device_count(), Ok(1));
        assert_eq!(gpu.device_total_mem(0), Ok(1 << 30));
        assert_eq!(gpu.granularity(0), Ok(2 << 20));
    });
    if let Some(status) = status {
        assert!(status.success(), "{text}");
        for (name, _) in settings {
            assert!(text.contains(&format!("simcuda: {name} must be ")), "{name}: {text}");
        }
    }
}

#[test]
fn nothing_works_before_it_is_initialised() {
    alone(&[], || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.version(), Ok(13000), "except this");
        assert_eq!(gpu.device_count(), Err(Code::NOT_INITIALIZED));
        assert_eq!(gpu.mem_alloc(64), Err(Code::NOT_INITIALIZED));
        assert_eq!(gpu.reserve(2 << 20, 0, 0), Err(Code::NOT_INITIALIZED));
        assert_eq!(gpu.ctx_current(), Err(Code::NOT_INITIALIZED));
        assert_eq!(gpu.init_with(1), Err(Code::INVALID_VALUE));
        gpu.init().expect("initialised");
        assert_eq!(gpu.ctx_current(), Ok(Context::NULL));
        assert_eq!(gpu.mem_alloc(64), Err(Code::INVALID_CONTEXT));
        assert_eq!(gpu.device(1), Err(Code::INVALID_DEVICE));
        assert_eq!(gpu.ctx_set_current(Context(64)), Err(Code::INVALID_CONTEXT));
    });
}

#[test]
fn stale_handles_are_found_out_and_come_back_late() {
    alone(&[], || {
        let gpu = Gpu::started();
        let first = gpu.stream_create(0).expect("a stream");
        gpu.stream_destroy(first).expect("destroyed");
        let e = gpu.event_create(0).expect("an event");
        gpu.event_destroy(e).expect("destroyed");
        assert_eq!(gpu.stream_destroy(first), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.event_record(e, NULL), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.event_query(Event(first.0)), Err(Code::INVALID_HANDLE));
        let mut back = false;
        for i in 0..300 {
            let s = gpu.stream_create(0).expect("a stream");
            assert!(i > 10 || s != first, "too early");
            back |= s == first;
            gpu.stream_destroy(s).expect("destroyed");
        }
        assert!(back, "values are used again");
    });
}

#[test]
fn the_report_tells_what_is_left() {
    let report = file("report.json");
    let waited = alone(&[("SIMCUDA_REPORT", &report)], || {
        let gpu = Gpu::started();
        gpu.mem_alloc(4096).expect("memory");
        gpu.alloc_host(4096).expect("memory");
        gpu.mapped(2 << 20, 0);
        gpu.stream_create(0).expect("a stream");
        gpu.event_create(0).expect("an event");
        let module = gpu.kernels();
        let gone = gpu.stream_create(0).expect("a stream");
        gpu.stream_destroy(gone).expect("destroyed");
        let fill = gpu.function(module, "cp_demo_fill").expect("a kernel");
        gpu.fill(fill, gpu.mem_alloc(64).expect("memory"), 4, 1, NULL).expect("launched");
        gpu.write_report();
        let said = json(&std::env::var("SIMCUDA_REPORT").expect("set"));
        assert_eq!(said["schema"], "simcuda.report");
        assert_eq!(said["version"], 1);
        assert_eq!(said["pid"].as_u64(), Some(std::process::id().into()));
        let expected = serde_json::json!({
            "allocations": 2, "events": 1, "handles": 1, "host_allocations": 1, "mappings": 1,
            "modules": 1, "reservations": 1, "streams": 1,
        });
        assert_eq!(said["leaks"], expected);
        assert_eq!(said["launches"], 1);
        assert_eq!(said["faults"], serde_json::json!([]));
        assert_eq!(said["calls"]["cuMemAlloc_v2"], 2);
        let card = &said["devices"][0];
        assert_eq!(card["used_bytes"].as_u64(), Some((2 << 20) + 8192));
        assert_eq!(card["peak_bytes"], card["used_bytes"]);
        assert_eq!((&card["live_handles"], &card["live_mappings"]), (&1.into(), &1.into()));
        // At exit it is written again.
        std::fs::remove_file(std::env::var("SIMCUDA_REPORT").expect("set")).expect("there");
    });
    assert!(!waited || json(&report)["launches"] == 1);
}

#[test]
fn the_trace_has_a_line_a_call() {
    let trace = file("trace.jsonl");
    alone(&[("SIMCUDA_TRACE", &trace)], || {
        let gpu = Gpu::started();
        let at = gpu.mem_alloc(4096).expect("memory");
        let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
        gpu.fill(fill, at, 300, 1, NULL).expect("launched");
        gpu.ctx_synchronize().expect("done");
        assert_eq!(gpu.mem_free(1), Err(Code::INVALID_VALUE));
        let text = std::fs::read_to_string(std::env::var("SIMCUDA_TRACE").expect("set"));
        let lines: Vec<serde_json::Value> =
            text.expect("a file").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let line = |name: &str| lines.iter().find(|l| l["call"] == name).expect("a line");
        let alloc = &line("cuMemAlloc_v2")["args"];
        assert_eq!((alloc["ptr"].as_u64(), alloc["bytes"].as_u64()), (Some(at), Some(4096)));
        let launch = line("cuLaunchKernel");
        assert!(launch["tid"].is_u64() && launch["t"].is_u64() && launch["result"] == 0);
        assert_eq!(launch["args"]["kernel"], "cp_demo_fill");
        assert_eq!(launch["args"]["grid"], serde_json::json!([2, 1, 1]));
        let hex: String = at.to_le_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let sent = launch["args"]["parameters"].as_str().expect("text");
        assert!(sent.starts_with(&hex) && sent.len() == 40, "{sent}");
        assert_eq!(line("cuMemFree_v2")["result"], 1);
    });
}
