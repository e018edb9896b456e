//! Forks, and processes that share the cards.

use crate::gpu::{Gpu, ROLE, again, alone};
use cuda_client::{Code, Lookup};

const MIB: usize = 1 << 20;

#[test]
fn the_child_of_a_fork_cannot_go_on() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.mem_alloc(4096).expect("memory");
        // SAFETY: the child only calls the driver, which is what is tested, and ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = [gpu.init(), gpu.mem_free(at), gpu.ctx_synchronize()]
                .iter()
                .all(|r| *r == Err(Code::NOT_INITIALIZED));
            // SAFETY: ends the child without running what the parent registered.
            unsafe { libc::_exit(if refused { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: a child of ours and a live output.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
        gpu.mem_free(at).expect("the parent goes on");
    });
}

#[test]
fn a_fork_before_the_start_does_no_harm() {
    alone(&[], || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.version(), Ok(13000));
        // SAFETY: as above.
        let child = unsafe { libc::fork() };
        let started = gpu.start(0).is_ok();
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(if started { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: as above.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert!(started && status == 0);
    });
}

#[test]
fn processes_share_the_memory_of_a_card() {
    let name = env!("CARGO_TARGET_TMPDIR").replace('/', "-");
    let settings =
        [("SIMCUDA_SHARED", name.as_str()), ("SIMCUDA_MEMORY", "32MiB"), ("SIMCUDA_STREAMS", "")];
    alone(&settings, || {
        let gpu = Gpu::started();
        match std::env::var(ROLE).as_deref() {
            Err(_) => {
                gpu.mem_alloc(20 * MIB).expect("memory");
                assert_eq!(gpu.peak(), 20 * MIB as u64);
                for role in ["ends", "is killed"] {
                    let output = again(role).output().expect("it starts");
                    let text = format!("{output:?}");
                    assert!(text.contains("shared"), "{role}: {text}");
                    // What an ended process had is free again; the peak was of both.
                    assert_eq!(gpu.mem_info(), Ok((12 * MIB, 32 * MIB)));
                    assert!(gpu.peak() >= 30 * MIB as u64);
                    let at = gpu.mem_alloc(12 * MIB).expect("all that is left");
                    gpu.mem_free(at).expect("freed");
                }
            }
            Ok(role) => {
                assert_eq!(gpu.mem_info(), Ok((12 * MIB, 32 * MIB)));
                assert_eq!(gpu.mem_alloc(13 * MIB), Err(Code::OUT_OF_MEMORY));
                gpu.mem_alloc(10 * MIB).expect("memory");
                println!("shared");
                if role == "is killed" {
                    // SAFETY: ends this process.
                    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                }
            }
        }
    });
    // A new group of that name begins at zero.
    let waited = alone(&[("SIMCUDA_SHARED", name.as_str())], || {
        let gpu = Gpu::started();
        assert_eq!((gpu.peak(), gpu.used()), (0, 0));
    });
    if waited {
        let _ = std::fs::remove_file(format!("/dev/shm/simcuda-{name}"));
    }
}
