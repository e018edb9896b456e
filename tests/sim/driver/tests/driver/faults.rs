//! Device work that touches what it may not, and host code that does.

use crate::gpu::{Gpu, IMAGE, MODES, alone, file, filled, json, status_of};
use cuda_client::{Code, Stream, flag};
use std::os::unix::process::ExitStatusExt;

const G: usize = 2 << 20;
const NULL: Stream = Stream::NULL;

#[test]
fn a_fault_fails_the_context_for_good() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode)], || {
            let gpu = Gpu::started();
            let first = gpu.ctx_current().expect("a context");
            let other = gpu.ctx_create(0, 0).expect("another context");
            let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
            let at = gpu.mem_alloc(4096).expect("memory");
            let s = gpu.stream_create(0).expect("a stream");
            let hole = gpu.reserve(G, 0, 0).expect("addresses");
            let _ = gpu.fill(fill, hole + 64, 16, 1, s);
            assert_eq!(gpu.stream_synchronize(s), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(gpu.faults(), 1);
            // Every call of the context says so from now on, and nothing runs any more.
            assert_eq!(gpu.mem_alloc(4096), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(gpu.ctx_synchronize(), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(gpu.fill(fill, at, 16, 1, NULL), Err(Code::ILLEGAL_ADDRESS));
            // Another context goes on.
            gpu.ctx_set_current(first).expect("set");
            let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
            let at = gpu.mem_alloc(4096).expect("memory");
            gpu.fill(fill, at, 16, 1, NULL).expect("launched");
            assert_eq!(gpu.read::<u32>(at, 16), Ok(filled(16, 1)));
            gpu.ctx_destroy(other).expect("destroyed");
        });
    }
}

#[test]
fn what_is_not_mapped_or_not_open_faults() {
    for (i, what) in ["reserved", "mapped", "closed", "unmapped", "freed"].iter().enumerate() {
        let report = file(&format!("fault-{i}.json"));
        alone(&[("SIMCUDA_REPORT", &report), ("CASE", what)], || {
            let gpu = Gpu::started();
            let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
            let (at, _) = gpu.mapped(G, 0);
            gpu.fill(fill, at, 16, 1, NULL).expect("launched");
            gpu.ctx_synchronize().expect("allowed");
            let closed = cuda_client::AccessDesc {
                flags: flag::ACCESS_NONE,
                ..cuda_client::AccessDesc::read_write(0)
            };
            let bad = match std::env::var("CASE").as_deref() {
                Ok("reserved") => gpu.reserve(G, 0, 0).expect("addresses"),
                Ok("mapped") => {
                    let at = gpu.reserve(G, 0, 0).expect("addresses");
                    gpu.map(at, G, gpu.create(G, 0).expect("memory")).expect("mapped");
                    at
                }
                Ok("closed") => {
                    gpu.set_access(at, G, &[closed]).expect("closed");
                    at
                }
                Ok("unmapped") => {
                    gpu.unmap(at, G).expect("unmapped");
                    at
                }
                _ => {
                    let at = gpu.mem_alloc(G).expect("memory");
                    gpu.mem_free(at).expect("freed");
                    at
                }
            };
            assert!(!gpu.is_mapped(bad));
            let s = gpu.stream_create(0).expect("a stream");
            gpu.fill(fill, bad, 16, 1, s).expect("the launch itself succeeds");
            assert_eq!(gpu.stream_synchronize(s), Err(Code::ILLEGAL_ADDRESS));
            gpu.write_report();
            let report = json(&std::env::var("SIMCUDA_REPORT").expect("set"));
            let fault = &report["faults"][0];
            assert_eq!(fault["address"].as_u64(), Some(bad));
            assert_eq!(fault["kernel"], "cp_demo_fill");
            assert_eq!(fault["stream"].as_u64(), Some(s.0 as u64));
        });
    }
}

#[test]
fn a_copy_from_memory_that_has_gone_faults() {
    alone(&[("SIMCUDA_STREAMS", "lazy:100")], || {
        let gpu = Gpu::started();
        let (at, handle) = gpu.mapped(G, 0);
        let to = gpu.mem_alloc(4096).expect("memory");
        gpu.copy_d2d_async(to, at, 4096, NULL).expect("queued");
        gpu.unmap(at, G).expect("unmapped under it");
        gpu.release(handle).expect("released");
        assert_eq!(gpu.ctx_synchronize(), Err(Code::ILLEGAL_ADDRESS));
    });
}

#[test]
fn the_hosts_own_faults_are_the_programs() {
    let (status, text) = status_of(&[], || {
        let gpu = Gpu::started();
        gpu.set_d8(gpu.mem_alloc(64).expect("memory"), 0, 64).expect("set");
        let hole = gpu.reserve(G, 0, 0).expect("addresses");
        // SAFETY: not safe at all; this is to end the process.
        unsafe { (hole as *mut u8).write_volatile(1) };
    });
    if let Some(status) = status {
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{text}");
    }
}

#[test]
fn a_handler_of_the_program_is_asked_and_replaced() {
    alone(&[], || {
        use std::sync::atomic::{AtomicU64, Ordering};
        static PAGE: AtomicU64 = AtomicU64::new(0);
        extern "C" fn open(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
            let at = PAGE.load(Ordering::Relaxed) as *mut libc::c_void;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a page of this test.
            unsafe { libc::mprotect(at, 4096, prot) };
        }
        let gpu = Gpu::started();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping; a handler that only opens it, installed over the simulator's.
        let page = unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
            PAGE.store(page as u64, Ordering::Relaxed);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = open as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
            page.cast::<u8>()
        };
        // Device work faults all the same, and the program's handler still serves the host.
        let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
        let hole = gpu.reserve(G, 0, 0).expect("addresses");
        gpu.fill(fill, hole, 16, 1, NULL).expect("launched");
        assert_eq!(gpu.ctx_synchronize(), Err(Code::ILLEGAL_ADDRESS));
        // SAFETY: the handler opens the page.
        unsafe { page.write_volatile(3) };
    });
}

#[test]
fn a_destroyed_context_ends_the_process() {
    let report = file("destroyed.json");
    let body = || {
        let gpu = Gpu::started();
        let first = gpu.ctx_current().expect("a context");
        let gone = gpu.ctx_create(0, 0).expect("another context");
        gpu.ctx_destroy(gone).expect("destroyed");
        gpu.ctx_push(first).expect("this one lives");
        assert_eq!(gpu.ctx_push(gone), Err(Code::INVALID_CONTEXT));
        println!("still here");
    };
    let (status, text) = status_of(&[("SIMCUDA_REPORT", &report)], body);
    if let Some(status) = status {
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{text}");
        assert!(
            text.contains("cuCtxPushCurrent_v2 of a context that has been destroyed"),
            "{text}"
        );
        assert_eq!(json(&report)["destroyed_contexts"][0], "cuCtxPushCurrent_v2");
    }
    let (status, text) = status_of(&[("SIMCUDA_DESTROYED", "report")], body);
    if let Some(status) = status {
        assert!(status.success() && text.contains("still here"), "{text}");
    }
}

#[test]
fn strict_mode_hides_device_memory_from_the_host() {
    let (status, text) = status_of(&[("SIMCUDA_STRICT", "1")], || {
        let gpu = Gpu::started();
        let fill = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel");
        let (virtual_at, _) = gpu.mapped(G, 0);
        let at = gpu.mem_alloc(4096).expect("memory");
        for at in [at, virtual_at] {
            gpu.fill(fill, at, 64, 4, NULL).expect("launched");
            assert_eq!(gpu.read::<u32>(at, 64), Ok(filled(64, 4)));
        }
        println!("so far so good");
        // SAFETY: not safe at all; this is to end the process.
        unsafe { (at as *mut u8).read_volatile() };
    });
    if let Some(status) = status {
        assert!(text.contains("so far so good"), "{text}");
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{text}");
    }
}

#[test]
fn an_image_must_be_one() {
    alone(&[], || {
        let gpu = Gpu::started();
        let mut broken = IMAGE.to_vec();
        broken[0] = 0;
        // SAFETY: whole images, or what is not one from its first byte on.
        unsafe {
            assert_eq!(gpu.module_load(&broken), Err(Code::INVALID_IMAGE));
            broken[0] = 0x7F;
            let at = broken.windows(9).position(|w| w == b"coldpress").expect("the note");
            broken[at] = b'x';
            assert_eq!(gpu.module_load(&broken), Err(Code::INVALID_IMAGE));
        }
    });
}
