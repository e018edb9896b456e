//! The allocation calls, pools, managed and pinned memory.

use crate::gpu::{Gpu, MODES, alone};
use cuda_client::{Code, PoolProps, Stream, flag};
use std::ffi::c_void;

const MIB: usize = 1 << 20;
const NULL: Stream = Stream::NULL;

#[test]
fn memory_is_limited_and_comes_back() {
    let settings = [("SIMCUDA_MEMORY", "64MiB"), ("SIMCUDA_BUDGET", "16MiB")];
    alone(&settings, || {
        let gpu = Gpu::started();
        assert_eq!(gpu.device_total_mem(0), Ok(64 * MIB));
        assert_eq!(gpu.mem_info(), Ok((16 * MIB, 64 * MIB)));
        let a = gpu.mem_alloc(12 * MIB).expect("memory");
        assert_eq!(gpu.mem_info(), Ok((4 * MIB, 64 * MIB)));
        for too_much in [5 * MIB, 1 << 40, usize::MAX - 10, usize::MAX] {
            assert_eq!(gpu.mem_alloc(too_much), Err(Code::OUT_OF_MEMORY), "{too_much}");
        }
        assert_eq!(gpu.create(8 * MIB, 0), Err(Code::OUT_OF_MEMORY));
        assert_eq!(gpu.mem_alloc(0), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.mem_alloc_pitch(usize::MAX, 2, 4), Err(Code::INVALID_VALUE));
        gpu.mem_free(a).expect("freed");
        assert_eq!(gpu.mem_free(a), Err(Code::INVALID_VALUE), "freed twice");
        assert_eq!(gpu.mem_free(0), Ok(()));
        assert_eq!(gpu.used(), 0);
        assert_eq!(gpu.peak(), 12 * MIB as u64);
        let b = gpu.mem_alloc(100).expect("memory");
        assert_ne!(a, b, "addresses come back late");
        assert_eq!(gpu.read::<u8>(b, 100), Ok(vec![0xA5; 100]), "fresh memory is not zero");
        assert_eq!(gpu.mem_free(b + 4), Err(Code::INVALID_VALUE));
    });
}

#[test]
fn ranges_are_checked() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.mem_alloc(1000).expect("memory");
        assert_eq!(gpu.set_d8(at, 1, 1001), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.set_d8(at + 1, 1, usize::MAX), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.set_d32(at + 2, 1, 1), Err(Code::INVALID_VALUE), "not aligned");
        assert_eq!(gpu.set_2d_d32(at, usize::MAX, 1, 4, 4), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.read::<u8>(at + 999, 2), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.copy_d2d(at, at + 500, usize::MAX), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.copy_d2d(at, 8192, 4), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.set_d8(at, 1, 1000), Ok(()));
    });
}

#[test]
fn frees_in_stream_order() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode), ("SIMCUDA_MEMORY", "16MiB")], || {
            let gpu = Gpu::started();
            let s = gpu.stream_create(0).expect("a stream");
            // Room for one: what is queued to be freed has to make place for the next.
            for i in 0..5u32 {
                let at = gpu.mem_alloc_async(10 * MIB, s).expect("memory");
                gpu.set_d32_async(at, i, 1000, s).expect("set");
                gpu.mem_free_async(at, s).expect("queued");
                assert_eq!(gpu.mem_free_async(at, s), Err(Code::INVALID_VALUE), "twice");
            }
            let plain = gpu.mem_alloc(1000).expect("memory");
            gpu.mem_free_async(plain, s).expect("also for plain memory");
            let managed = gpu.mem_alloc_managed(1000, flag::ATTACH_GLOBAL).expect("memory");
            assert_eq!(gpu.mem_free_async(managed, s), Err(Code::INVALID_VALUE));
            gpu.mem_free(managed).expect("freed");
            gpu.stream_synchronize(s).expect("done");
            assert_eq!(gpu.used(), 0);
        });
    }
}

#[test]
fn a_free_that_fails_keeps_the_memory() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.mem_alloc_async(1000, NULL).expect("memory");
        assert_eq!(gpu.mem_free_async(at, Stream(999)), Err(Code::INVALID_HANDLE));
        gpu.mem_free_async(at, NULL).expect("still there");
    });
}

#[test]
fn pools_count_and_end() {
    alone(&[], || {
        let gpu = Gpu::load(cuda_client::Lookup::Symbols);
        assert_eq!(gpu.pool_trim(cuda_client::Pool(64), 0), Err(Code::NOT_INITIALIZED));
        gpu.start(0).expect("it starts");
        let default = gpu.default_pool(0).expect("a pool");
        assert_eq!(gpu.current_pool(0), Ok(default));
        let pool = gpu.pool_create(&PoolProps::device(0)).expect("a pool");
        gpu.set_current_pool(0, pool).expect("chosen");
        let at = gpu.mem_alloc_async(2 * MIB, NULL).expect("memory");
        let ask = |which| gpu.pool_attribute(pool, which);
        assert_eq!(ask(flag::POOL_USED_CURRENT), Ok(2 * MIB as u64));
        assert_eq!(gpu.pointer_attribute(flag::POINTER_MEMPOOL, at), Ok(pool.0 as u64));
        gpu.mem_free_async(at, NULL).expect("queued");
        gpu.stream_synchronize(NULL).expect("done");
        assert_eq!(ask(flag::POOL_USED_CURRENT), Ok(0));
        assert_eq!(ask(flag::POOL_USED_HIGH), Ok(2 * MIB as u64));
        gpu.set_pool_attribute(pool, flag::POOL_USED_HIGH, 0).expect("reset");
        assert_eq!(ask(flag::POOL_USED_HIGH), Ok(0));
        gpu.set_pool_attribute(pool, flag::POOL_RELEASE_THRESHOLD, 77).expect("set");
        assert_eq!(ask(flag::POOL_RELEASE_THRESHOLD), Ok(77));
        gpu.pool_destroy(pool).expect("destroyed");
        assert_eq!(gpu.current_pool(0), Ok(default), "the default pool again");
        assert_eq!(gpu.pool_destroy(default), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.mem_alloc_from_pool(4096, pool, NULL), Err(Code::INVALID_VALUE));
    });
}

#[test]
fn managed_memory_is_the_hosts_too() {
    for strict in ["0", "1"] {
        alone(&[("SIMCUDA_STRICT", strict)], || {
            let gpu = Gpu::started();
            let at = gpu.mem_alloc_managed(4096, flag::ATTACH_GLOBAL).expect("memory");
            gpu.set_d32(at, 5, 8).expect("set");
            // SAFETY: managed memory of this size.
            let host = unsafe { std::slice::from_raw_parts_mut(at as *mut u32, 8) };
            assert_eq!(host, [5; 8]);
            host[3] = 9;
            assert_eq!(gpu.read::<u32>(at + 12, 1), Ok(vec![9]));
            assert_eq!(gpu.pointer_attribute(flag::POINTER_IS_MANAGED, at), Ok(1));
        });
    }
}

#[test]
fn pinned_memory_is_known() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.host_alloc(8192, flag::HOST_PORTABLE).expect("memory");
        assert_eq!(gpu.host_device_pointer(at), Ok(at as u64));
        assert_eq!(gpu.host_flags(at), Ok(flag::HOST_PORTABLE));
        let kind = gpu.pointer_attribute(flag::POINTER_MEMORY_TYPE, at as u64 + 10);
        assert_eq!(kind, Ok(u64::from(flag::MEMORY_HOST)));
        let mut own = vec![0u8; 100];
        let mine: *mut c_void = own.as_mut_ptr().cast();
        // SAFETY: the vector outlives the registration; the ranges below are only looked at.
        unsafe {
            gpu.host_register(mine, 100, 0).expect("registered");
            let twice = gpu.host_register(mine.byte_add(10), 10, 0);
            assert_eq!(twice, Err(Code::HOST_MEMORY_ALREADY_REGISTERED));
            assert_eq!(gpu.host_register(mine, usize::MAX, 0), Err(Code::INVALID_VALUE));
            assert_eq!(gpu.host_free(mine), Err(Code::INVALID_VALUE), "registered, not allocated");
        }
        gpu.host_unregister(mine).expect("unregistered");
        assert_eq!(gpu.host_unregister(mine), Err(Code::HOST_MEMORY_NOT_REGISTERED));
        let ids = [at as u64, gpu.mem_alloc(64).expect("memory")]
            .map(|at| gpu.pointer_attribute(flag::POINTER_BUFFER_ID, at));
        assert_ne!(ids[0], ids[1]);
        // SAFETY: nobody uses it.
        unsafe { gpu.host_free(at) }.expect("freed");
    });
}

#[test]
fn the_end_of_a_context_ends_its_memory() {
    alone(&[], || {
        let gpu = Gpu::started();
        let first = gpu.ctx_current().expect("a context");
        let ctx = gpu.ctx_create(0, 0).expect("a context");
        let at = gpu.mem_alloc(MIB).expect("memory");
        let pooled = gpu.mem_alloc_async(MIB, NULL).expect("memory");
        let s = gpu.stream_create(0).expect("a stream");
        gpu.ctx_destroy(ctx).expect("destroyed");
        assert_eq!(gpu.ctx_current(), Ok(first));
        assert_eq!(gpu.stream_query(s), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.mem_free(at), Err(Code::INVALID_VALUE));

        // Pools belong to the device.
        gpu.mem_free(pooled).expect("freed");
        assert_eq!(gpu.used(), 0);
    });
}
