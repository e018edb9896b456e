//! Several cards, managed advice, occupancy, and attributes of streams.

use crate::gpu::{Gpu, alone};
use cuda_client::{AccessDesc, Code, MemLocation, Stream, flag};

const MIB: usize = 1 << 20;
const NULL: Stream = Stream::NULL;

/// Calls an exported function that the client does not know.
macro_rules! raw {
    ($gpu:ident.$name:ident($($arg:expr => $ty:ty),*)) => {{
        let at = $gpu.symbol(stringify!($name));
        assert!(!at.is_null());
        // SAFETY: the documented signature; pointers are to live locals.
        let code = unsafe {
            let f = std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn($($ty),*) -> u32>(at);
            f($($arg),*)
        };
        Code::check(code)
    }};
}

#[test]
fn cards_have_memory_of_their_own() {
    let settings = [("SIMCUDA_DEVICES", "2"), ("SIMCUDA_MEMORY", "16MiB")];
    alone(&settings, || {
        let gpu = Gpu::started();
        let first = gpu.ctx_current().expect("a context");
        assert_eq!(gpu.device_count(), Ok(2));
        assert_ne!(gpu.device_uuid(0), gpu.device_uuid(1));
        assert_eq!(gpu.can_access_peer(0, 1), Ok(true));
        let a = gpu.mem_alloc(12 * MIB).expect("memory");
        let second = gpu.primary_retain(1).expect("a context");
        gpu.ctx_set_current(second).expect("set");
        assert_eq!(gpu.ctx_device(), Ok(1));
        assert_eq!(gpu.mem_info(), Ok((16 * MIB, 16 * MIB)));
        let b = gpu.mem_alloc(12 * MIB).expect("memory");
        assert_eq!(gpu.pointer_attribute(flag::POINTER_DEVICE_ORDINAL, b), Ok(1));
        assert_eq!(gpu.pointer_context(a), Ok(first));
        gpu.set_d32(b, 77, 100).expect("set");
        gpu.copy_peer((a, first), (b, second), 400).expect("copied");
        assert_eq!(gpu.read::<u32>(a, 100), Ok(vec![77; 100]));
        gpu.ctx_enable_peer_access(first).expect("enabled");
        assert_eq!(gpu.ctx_enable_peer_access(first), Err(Code::PEER_ACCESS_ALREADY_ENABLED));
        assert_eq!(gpu.ctx_enable_peer_access(second), Err(Code::INVALID_VALUE));
        gpu.ctx_disable_peer_access(first).expect("disabled");
        assert_eq!(gpu.ctx_disable_peer_access(first), Err(Code::PEER_ACCESS_NOT_ENABLED));
        let at = gpu.reserve(2 * MIB, 0, 0).expect("addresses");
        gpu.map(at, 2 * MIB, gpu.create(2 * MIB, 1).expect("memory")).expect("mapped");
        let both = [AccessDesc::read_write(0), AccessDesc::read_write(1)];
        gpu.set_access(at, 2 * MIB, &both).expect("open");
        assert_eq!((gpu.access_of(at, 0), gpu.access_of(at, 1)), (Ok(3), Ok(3)));
    });
}

#[test]
fn advice_is_remembered() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.mem_alloc_managed(MIB, flag::ATTACH_GLOBAL).expect("memory");
        let ask = |which: i32| {
            let mut value = 99i32;
            raw!(gpu.cuMemRangeGetAttribute(&mut value => &mut i32, 4 => usize, which => i32, at => u64, MIB => usize))
                .map(|()| value)
        };
        let (read_mostly, preferred, prefetched) = (1, 2, 4);
        assert_eq!((ask(read_mostly), ask(preferred), ask(prefetched)), (Ok(0), Ok(-2), Ok(-2)));
        raw!(gpu.cuMemAdvise(at => u64, MIB => usize, 1 => i32, 0 => i32)).expect("taken");
        let device = MemLocation::device(0);
        raw!(gpu.cuMemAdvise_v2(at => u64, MIB => usize, 3 => i32, device => MemLocation))
            .expect("taken");
        raw!(gpu.cuMemPrefetchAsync_v2(at => u64, MIB => usize, device => MemLocation, 0 => u32, NULL => Stream))
            .expect("taken");
        assert_eq!((ask(read_mostly), ask(preferred), ask(prefetched)), (Ok(1), Ok(0), Ok(0)));
        let mut by = [9i32; 3];
        raw!(gpu.cuMemAdvise(at => u64, MIB => usize, 5 => i32, -1 => i32)).expect("taken");
        raw!(gpu.cuMemRangeGetAttribute(by.as_mut_ptr() => *mut i32, 12 => usize, 3 => i32, at => u64, MIB => usize))
            .expect("known");
        assert_eq!(by, [-1, -2, -2]);
        let plain = gpu.mem_alloc(64).expect("memory");
        let refused = raw!(gpu.cuMemAdvise(plain => u64, 64 => usize, 1 => i32, 0 => i32));
        assert_eq!(refused, Err(Code::INVALID_VALUE));
    });
}

#[test]
fn occupancy_follows_threads_and_shared_memory() {
    alone(&[], || {
        let gpu = Gpu::started();
        let f = gpu.function(gpu.kernels(), "cp_demo_fill").expect("a kernel").0;
        let blocks = |f: usize, threads: i32, shared: usize| {
            let mut n = -1;
            raw!(gpu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut n => &mut i32, f => usize, threads => i32, shared => usize))
                .map(|()| n)
        };
        assert_eq!(blocks(f, 1024, 0), Ok(2));
        assert_eq!(blocks(f, 33, 0), Ok(32));
        assert_eq!(blocks(f, 128, 100 << 10), Ok(2));
        assert_eq!(blocks(f, 2048, 0), Ok(0));
        assert_eq!(blocks(f, 0, 0), Err(Code::INVALID_VALUE));
        assert_eq!(blocks(77, 32, 0), Err(Code::INVALID_HANDLE));
        let (mut grid, mut block) = (0, 0);
        raw!(gpu.cuOccupancyMaxPotentialBlockSize(&mut grid => &mut i32, &mut block => &mut i32, f => usize, 0 => usize, 0 => usize, 0 => i32))
            .expect("known");
        assert_eq!((grid, block), (264, 1024));
    });
}

#[test]
fn streams_have_attributes() {
    alone(&[], || {
        let gpu = Gpu::started();
        let a = gpu.stream_create_with_priority(flag::STREAM_NON_BLOCKING, -9).expect("a stream");
        let b = gpu.stream_create(0).expect("a stream");
        assert_eq!((gpu.stream_priority(a), gpu.stream_priority(b)), (Ok(-5), Ok(0)));
        assert_eq!((gpu.stream_flags(a), gpu.stream_flags(b)), (Ok(1), Ok(0)));
        let set = [3u8; 64];
        raw!(gpu.cuStreamSetAttribute(a => Stream, 3 => i32, &set => &[u8; 64])).expect("taken");
        raw!(gpu.cuStreamCopyAttributes(b => Stream, a => Stream)).expect("copied");
        let mut got = [0u8; 64];
        raw!(gpu.cuStreamGetAttribute(b => Stream, 3 => i32, &mut got => &mut [u8; 64]))
            .expect("known");
        assert_eq!(got, set);
        let unknown =
            raw!(gpu.cuStreamGetAttribute(b => Stream, 77 => i32, &mut got => &mut [u8; 64]));
        assert_eq!(unknown, Err(Code::INVALID_VALUE));
    });
}
