//! The order of streams, default streams and events, in every mode.

use crate::gpu::{Gpu, Log, MODES, alone, filled};
use cuda_client::{Code, Event, Lookup, Stream, flag};
use std::sync::Barrier;

const NULL: Stream = Stream::NULL;

fn before(text: &str, first: char, second: char) -> bool {
    text.find(first).zip(text.find(second)).is_some_and(|(a, b)| a < b)
}

#[test]
fn the_legacy_stream_is_between_the_others() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode), ("SIMCUDA_DELAY", "0:2000,2:500")], || {
            let gpu = Gpu::started();
            let log = Log::new();
            let slow = gpu.stream_create(flag::STREAM_DEFAULT).expect("a stream");
            let quick = gpu.stream_create(flag::STREAM_DEFAULT).expect("a stream");
            let free = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
            for (on, letter) in [(slow, b'a'), (free, b'f'), (NULL, b'L'), (quick, b'b')] {
                gpu.note(on, log, letter);
            }
            gpu.note(slow, log, b'c');
            gpu.note(NULL, log, b'M');
            gpu.ctx_synchronize().expect("done");
            let text = log.text();
            for pair in ["aL", "Lb", "Lc", "bM", "cM"] {
                let (first, second) = (pair.as_bytes()[0].into(), pair.as_bytes()[1].into());
                assert!(before(&text, first, second), "{pair} in {text}");
            }
            assert_eq!(text.len(), 6);
        });
    }
}

#[test]
fn destroyed_streams_still_count() {
    for mode in ["async", "lazy", "random:5"] {
        alone(&[("SIMCUDA_STREAMS", mode), ("SIMCUDA_DELAY", "0:3000")], || {
            let gpu = Gpu::started();
            let log = Log::new();
            let slow = gpu.stream_create(flag::STREAM_DEFAULT).expect("a stream");
            gpu.note(slow, log, b'a');
            gpu.stream_destroy(slow).expect("destroyed");
            assert_eq!(gpu.stream_synchronize(slow), Err(Code::INVALID_HANDLE));
            gpu.note(NULL, log, b'L');
            gpu.stream_synchronize(NULL).expect("done");
            assert_eq!(log.text(), "aL");
        });
    }
}

#[test]
fn threads_have_default_streams_of_their_own() {
    alone(&[("SIMCUDA_STREAMS", "async")], || {
        let gpu = Gpu::load(Lookup::PerThreadSymbols);
        let (_, ctx) = gpu.start(0).expect("it starts");
        let mine = gpu.stream_id(NULL).expect("an id");
        let gpu2 = gpu.clone();
        let other = std::thread::spawn(move || {
            gpu2.ctx_set_current(ctx).expect("set");
            let log = Log::new();
            gpu2.note(NULL, log, b'p');
            gpu2.note(Stream::LEGACY, log, b'L');
            gpu2.stream_synchronize(Stream::LEGACY).expect("done");
            assert_eq!(log.text(), "pL");
            gpu2.stream_id(Stream::PER_THREAD).expect("an id")
        });
        assert_ne!(other.join().expect("no panic"), mine);
        assert_eq!(gpu.stream_id(Stream::PER_THREAD), Ok(mine));
        assert_ne!(gpu.stream_id(Stream::LEGACY), Ok(mine));
    });
}

#[test]
fn an_event_stands_for_what_was_queued_before_it() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode), ("SIMCUDA_DELAY", "0:1500")], || {
            let gpu = Gpu::started();
            let log = Log::new();
            let a = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
            let b = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
            let e = gpu.event_create(flag::EVENT_DEFAULT).expect("an event");
            assert_eq!(gpu.event_query(e), Ok(()), "never recorded is complete");
            gpu.stream_wait_event(b, e).expect("no wait");
            gpu.note(a, log, b'1');
            gpu.event_record(e, a).expect("recorded");
            gpu.stream_wait_event(b, e).expect("queued");
            gpu.note(b, log, b'2');
            gpu.note(a, log, b'3');
            // The wait stays with what the event stood for.
            gpu.event_destroy(e).expect("destroyed");
            gpu.stream_synchronize(b).expect("done");
            assert!(before(&log.text(), '1', '2'), "{}", log.text());
            gpu.ctx_synchronize().expect("done");
            assert_eq!(log.text().len(), 3);
            assert_eq!(gpu.event_query(e), Err(Code::INVALID_HANDLE));
        });
    }
}

#[test]
fn events_keep_time_and_their_context() {
    alone(&[], || {
        let gpu = Gpu::started();
        let make = |flags| gpu.event_create(flags).expect("an event");
        let (start, end, untimed) = (make(0), make(0), make(flag::EVENT_DISABLE_TIMING));
        assert_eq!(gpu.event_elapsed(start, end), Err(Code::INVALID_HANDLE), "not recorded");
        for e in [start, end, untimed] {
            gpu.event_record(e, NULL).expect("recorded");
            gpu.event_synchronize(e).expect("done");
        }
        assert!(gpu.event_elapsed(start, end).expect("a time") >= 0.0);
        assert_eq!(gpu.event_elapsed(start, untimed), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.event_create(64), Err(Code::INVALID_VALUE));
        gpu.ctx_create(0, 0).expect("another context");
        assert_eq!(gpu.event_record(start, NULL), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.event_query(Event::NULL), Err(Code::INVALID_HANDLE));
    });
}

#[test]
fn a_whole_context_can_be_recorded_and_held_up() {
    for mode in ["async", "lazy", "random:9"] {
        alone(&[("SIMCUDA_STREAMS", mode), ("SIMCUDA_DELAY", "0:1500")], || {
            let gpu = Gpu::started();
            let ctx = gpu.ctx_current().expect("a context");
            let log = Log::new();
            let a = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
            let b = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
            let e = gpu.event_create(0).expect("an event");
            gpu.note(a, log, b'a');
            gpu.ctx_record_event(ctx, e).expect("recorded");
            gpu.ctx_wait_event(ctx, e).expect("queued");
            gpu.note(b, log, b'b');
            gpu.stream_synchronize(b).expect("done");
            assert_eq!(log.text(), "ab");
        });
    }
}

#[test]
fn lazy_work_waits_for_somebody_to_ask() {
    alone(&[("SIMCUDA_STREAMS", "lazy:3")], || {
        let gpu = Gpu::started();
        let log = Log::new();
        let s = gpu.stream_create(0).expect("a stream");
        gpu.note(s, log, b'x');
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(gpu.stream_query(s), Err(Code::NOT_READY));
        assert_eq!(gpu.stream_query(s), Err(Code::NOT_READY));
        assert_eq!(log.text(), "");
        assert_eq!(gpu.stream_query(s), Ok(()));
        assert_eq!(log.text(), "x");
    });
}

#[test]
fn eager_work_has_run_when_the_call_returns() {
    alone(&[("SIMCUDA_STREAMS", "eager")], || {
        let gpu = Gpu::started();
        let log = Log::new();
        gpu.note(NULL, log, b'x');
        assert_eq!(log.text(), "x");
        assert_eq!(gpu.stream_query(NULL), Ok(()));
    });
}

#[test]
fn asynchronous_work_goes_on_beside_the_program() {
    alone(&[("SIMCUDA_STREAMS", "async"), ("SIMCUDA_DELAY", "0:200000")], || {
        let gpu = Gpu::started();
        let log = Log::new();
        let slow = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
        let quick = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
        gpu.note(slow, log, b's');
        gpu.note(quick, log, b'q');
        gpu.stream_synchronize(quick).expect("done");
        assert_eq!(log.text(), "q");
        assert_eq!(gpu.stream_query(slow), Err(Code::NOT_READY));
        gpu.stream_synchronize(slow).expect("done");
        assert_eq!(log.text(), "qs");
    });
}

#[test]
fn threads_may_share_a_stream() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode)], || {
            const EACH: u32 = 300;
            let gpu = Gpu::started();
            let ctx = gpu.ctx_current().expect("a context");
            let shared = gpu.stream_create(0).expect("a stream");
            let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
            let at = gpu.mem_alloc(4 * 4096).expect("memory");
            let start = Barrier::new(4);
            std::thread::scope(|scope| {
                for thread in 0..4u32 {
                    let (gpu, start) = (gpu.clone(), &start);
                    scope.spawn(move || {
                        gpu.ctx_set_current(ctx).expect("set");
                        start.wait();
                        let own = at + u64::from(thread) * 4096;
                        for i in 0..EACH {
                            gpu.fill(fill, own, 64, i, shared).expect("launched");
                            if i % 50 == 0 {
                                gpu.set_d32_async(own, 0, 1, NULL).expect("set");
                            }
                        }
                    });
                }
            });
            gpu.ctx_synchronize().expect("done");
            for thread in 0..4 {
                let got = gpu.read::<u32>(at + thread * 4096, 64).expect("read");
                assert_eq!(got, filled(64, EACH - 1));
            }
        });
    }
}

/// A full queue blocks the call that would queue one more, an event's and a context's too, until
/// there is room.
#[test]
fn a_full_queue_blocks_the_caller() {
    alone(&[("SIMCUDA_STREAMS", "async"), ("SIMCUDA_QUEUE", "3")], || {
        let gpu = Gpu::started();
        let (_, ctx) = gpu.start(0).expect("it starts");
        let log = Log::new();
        let on = gpu.stream_create(flag::STREAM_NON_BLOCKING).expect("a stream");
        let gate: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
        unsafe extern "C" fn pass(gate: *mut std::ffi::c_void) {
            // SAFETY: the leaked barrier below.
            unsafe { &*gate.cast::<Barrier>() }.wait();
        }
        let data = std::ptr::from_ref(gate).cast_mut().cast();
        // SAFETY: the function takes what it is given here.
        unsafe { gpu.launch_host_func(on, pass, data) }.expect("queued");
        gpu.note(on, log, b'a');
        gpu.note(on, log, b'b');
        let event = gpu.event_create(flag::EVENT_DISABLE_TIMING).expect("an event");
        let done = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            let blocked = |what: fn(&Gpu, Stream, Event, cuda_client::Context)| {
                let (gpu, done) = (gpu.clone(), &done);
                scope.spawn(move || {
                    gpu.ctx_set_current(ctx).expect("set");
                    what(&gpu, on, event, ctx);
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                });
            };
            blocked(|gpu, on, _, _| gpu.note(on, Log::new(), b'c'));
            blocked(|gpu, on, event, _| gpu.event_record(event, on).expect("recorded"));
            blocked(|gpu, _, _, ctx| {
                let event = gpu.event_create(flag::EVENT_DISABLE_TIMING).expect("an event");
                gpu.ctx_record_event(ctx, event).expect("recorded");
            });
            // Another stream has room.
            gpu.note(NULL, log, b'L');
            gpu.stream_synchronize(NULL).expect("done");
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), 0, "all are blocked");
            gate.wait();
        });
        assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), 3);
        gpu.ctx_synchronize().expect("done");
        assert_eq!(log.text(), "Lab");
    });
}
