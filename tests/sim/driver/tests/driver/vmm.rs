//! Virtual memory management: what maps, what is refused, what is charged.

use crate::gpu::{Gpu, alone};
use cuda_client::{AccessDesc, AllocationProp, Code, MemHandle, MemLocation, flag};

const MIB: usize = 1 << 20;
const G: usize = 2 * MIB;
const INVALID: Result<(), Code> = Err(Code::INVALID_VALUE);

#[test]
fn a_range_works_from_reservation_to_release() {
    alone(&[], || {
        let gpu = Gpu::started();
        assert_eq!(gpu.granularity(0), Ok(G));
        let (at, handle) = gpu.mapped(2 * G, 0);
        assert_eq!(at as usize % G, 0);
        gpu.upload(at + 12, &[1u32, 2, 3]).expect("copied");
        assert_eq!(gpu.read::<u32>(at + 12, 3), Ok(vec![1, 2, 3]));
        // The same memory elsewhere has the same bytes.
        let alias = gpu.reserve(2 * G, 0, 0).expect("addresses");
        gpu.map(alias, 2 * G, handle).expect("mapped");
        gpu.allow(alias, 2 * G, 0).expect("access");
        assert_eq!(gpu.read::<u32>(alias + 12, 3), Ok(vec![1, 2, 3]));
        assert_eq!(gpu.access_of(at, 0), Ok(u64::from(flag::ACCESS_READ_WRITE)));
        // Charged until the handle and every mapping are gone.
        let charged = |n: usize| assert_eq!(gpu.used(), (n * G) as u64);
        charged(2);
        gpu.release(handle).expect("released");
        gpu.unmap(at, 2 * G).expect("unmapped");
        charged(2);
        gpu.unmap(alias, 2 * G).expect("unmapped");
        charged(0);
        assert_eq!(gpu.peak(), (2 * G) as u64);
        gpu.address_free(at, 2 * G).expect("freed");
        gpu.address_free(alias, 2 * G).expect("freed");
        assert!(!gpu.is_mapped(at));
    });
}

#[test]
fn what_the_driver_refuses() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.reserve(4 * G, 0, 0).expect("addresses");
        let h = gpu.create(G, 0).expect("memory");
        let two = gpu.create(2 * G, 0).expect("memory");
        assert_eq!(gpu.reserve(G + 4096, 0, 0), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.reserve(0, 0, 0), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.create(4096, 0), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.create(G, 3), Err(Code::INVALID_DEVICE));
        let host = MemLocation { kind: flag::LOCATION_HOST, id: 0 };
        let on_host = AllocationProp { location: host, ..AllocationProp::device(0) };
        assert_eq!(gpu.create_with(G, &on_host), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.map(at, 2 * G, h), INVALID, "not the handle's size");
        assert_eq!(gpu.map(at + 4096, G, h), INVALID, "not aligned");
        assert_eq!(gpu.map(at + 3 * G as u64, 2 * G, two), INVALID, "beyond the reservation");
        assert_eq!(gpu.map(u64::MAX - (G as u64 - 1), G, h), INVALID, "around the end");
        assert_eq!(gpu.map_at(at, G, G, two), INVALID, "part of a handle");
        assert_eq!(gpu.map(at, G, MemHandle(12345)), INVALID);
        gpu.map(at, 2 * G, two).expect("mapped");
        assert_eq!(gpu.map(at + G as u64, G, h), INVALID, "taken");
        assert_eq!(gpu.address_free(at, 4 * G), INVALID, "still mapped");
        assert_eq!(gpu.address_free(at, 2 * G), INVALID, "not all of it");
        assert_eq!(gpu.unmap(at, G), INVALID, "half a mapping");
        assert_eq!(gpu.unmap(at + G as u64, G), INVALID, "the other half");
        // Two mappings and the hole of one before them: their sizes are right, their place is not.
        gpu.map(at + 3 * G as u64, G, h).expect("mapped");
        assert_eq!(gpu.unmap(at + G as u64, 3 * G), INVALID);
        assert_eq!(gpu.allow(at + G as u64, 3 * G, 0), INVALID);
        assert_eq!(gpu.allow(at, 4 * G, 0), INVALID, "a hole");
        let third = AccessDesc::read_write(3);
        assert_eq!(gpu.set_access(at, 2 * G, &[third]), Err(Code::INVALID_DEVICE));
        assert_eq!(gpu.release(h), Ok(()));
        assert_eq!(gpu.release(h), INVALID);
        // Memory of the allocation calls is none of this interface's business.
        let plain = gpu.mem_alloc(G).expect("memory");
        assert_eq!(gpu.unmap(plain, G), INVALID);
        assert_eq!(gpu.set_access(plain, G, &[AccessDesc::read_write(0)]), INVALID);
        assert_eq!(gpu.retain_handle(plain), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.address_free(plain, G), INVALID);
        assert_eq!(gpu.mem_free(at), INVALID);
    });
}

#[test]
fn neighbours_can_be_opened_and_unmapped_together() {
    alone(&[("SIMCUDA_GRANULARITY", "64KiB")], || {
        const G: usize = 64 << 10;
        let gpu = Gpu::started();
        let at = gpu.reserve(3 * G, 0, 0).expect("addresses");
        for i in 0..3 {
            let h = gpu.create(G, 0).expect("memory");
            gpu.map(at + (i * G) as u64, G, h).expect("mapped");
            gpu.release(h).expect("released");
        }
        assert!(!gpu.is_mapped(at), "mapped, but nobody may");
        gpu.allow(at, 3 * G, 0).expect("access");
        gpu.set_d8(at, 7, 3 * G).expect("set");
        let again = gpu.retain_handle(at + G as u64 + 5).expect("a handle");
        assert_eq!(gpu.handle_properties(again).map(|p| p.location), Ok(MemLocation::device(0)));
        gpu.release(again).expect("released");
        gpu.unmap(at, 3 * G).expect("unmapped");
        assert_eq!(gpu.used(), 0);
    });
}

#[test]
fn a_hint_is_followed_where_it_can_be() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.reserve(G, 0, 0).expect("addresses");
        gpu.address_free(at, G).expect("freed");
        assert_eq!(gpu.reserve(G, 0, at), Ok(at));
        let other = gpu.reserve(G, 0, at).expect("addresses");
        assert_ne!(other, at);
        let wide = gpu.reserve(G, 64 * MIB, 0).expect("addresses");
        assert_eq!(wide as usize % (64 * MIB), 0);
    });
}

#[test]
fn attributes_tell_reservation_mapping_and_memory_apart() {
    alone(&[], || {
        let gpu = Gpu::started();
        let at = gpu.reserve(4 * G, 0, 0).expect("addresses");
        let h = gpu.create(G, 0).expect("memory");
        let ask = |which, at| gpu.pointer_attribute(which, at);
        let list = |which: &[u32], at| gpu.pointer_attributes(which, at).expect("answered");
        const RANGE: [u32; 2] = [flag::POINTER_RANGE_START, flag::POINTER_RANGE_SIZE];
        const DEVICE: u32 = flag::POINTER_DEVICE_ORDINAL;
        const HOST: u32 = flag::POINTER_HOST_POINTER;
        const POINTER: u32 = flag::POINTER_DEVICE_POINTER;
        // To the single query a reservation is nothing; the list one knows its range.
        for which in 1..=20 {
            assert_eq!(ask(which, at + 9), Err(Code::INVALID_VALUE), "{which}");
        }
        assert_eq!(list(&RANGE, at + 9), [at, 4 * G as u64]);
        assert_eq!(list(&[HOST, POINTER, flag::POINTER_CONTEXT], at + 9), [at + 9, 0, 0]);
        assert_eq!(list(&[DEVICE], at + 9)[0] as i32, -2);
        for i in [0, 1] {
            gpu.map(at + i * G as u64, G, h).expect("mapped");
        }
        let second = at + G as u64 + 100;
        assert_eq!(ask(flag::POINTER_MAPPED, second), Ok(1));
        assert_eq!(ask(flag::POINTER_CONTEXT, second), Ok(0));
        assert_eq!(list(&[HOST, DEVICE], second), [0, 0]);
        // Nobody may touch it yet.
        assert_eq!(ask(POINTER, second), Err(Code::INVALID_VALUE));
        assert_eq!(list(&[POINTER], second), [0]);
        assert_eq!(gpu.address_range(second), Err(Code::NOT_FOUND));
        gpu.allow(at, 2 * G, 0).expect("access");
        assert_eq!(ask(POINTER, second), Ok(second));
        assert_eq!(ask(flag::POINTER_RANGE_START, second), Ok(at));
        assert_eq!(ask(flag::POINTER_RANGE_SIZE, second), Ok(4 * G as u64));
        const MAPPING_SIZE: u32 = 18;
        const MAPPING_BASE: u32 = 19;
        const BLOCK: u32 = 20;
        assert_eq!(ask(MAPPING_SIZE, second), Ok(G as u64));
        assert_eq!(ask(MAPPING_BASE, second), Ok(at + G as u64));
        assert_eq!(ask(BLOCK, second), ask(BLOCK, at), "one piece of memory");
        let ids = [at, second].map(|at| ask(flag::POINTER_BUFFER_ID, at));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(gpu.address_range(second), Ok((at + G as u64, G)));
        assert_eq!(ask(flag::POINTER_MAPPED, 4096), Err(Code::INVALID_VALUE));
        assert_eq!(list(&[flag::POINTER_MAPPED, BLOCK, HOST], 4096), [0, 0, 4096]);
        assert_eq!(list(&RANGE, 4096), [0, 0]);
    });
}

#[test]
fn memory_goes_through_a_file_descriptor() {
    alone(&[], || {
        let gpu = Gpu::started();
        let prop =
            AllocationProp { handle_types: flag::HANDLE_POSIX_FD, ..AllocationProp::device(0) };
        let private = gpu.create(G, 0).expect("memory");
        assert_eq!(gpu.export_fd(private), Err(Code::INVALID_VALUE), "not made for it");
        let handle = gpu.create_with(G, &prop).expect("memory");
        assert_eq!(gpu.handle_properties(handle).map(|p| p.handle_types), Ok(1));
        let fd = gpu.export_fd(handle).expect("a descriptor");
        type Import = unsafe extern "C" fn(*mut u64, usize, u32) -> u32;
        let import = |fd: i32| {
            let mut handle = 0;
            let at = gpu.symbol("cuMemImportFromShareableHandle");
            // SAFETY: the documented signature and a live output.
            let code = unsafe {
                std::mem::transmute::<*mut libc::c_void, Import>(at)(&mut handle, fd as usize, 1)
            };
            Code::check(code).map(|()| MemHandle(handle))
        };
        assert_eq!(import(fd), Ok(handle), "held once more");
        gpu.release(handle).expect("released");
        let at = gpu.reserve(G, 0, 0).expect("addresses");
        gpu.map(at, G, handle).expect("still alive");
        gpu.release(handle).expect("released");
        let again = import(fd).expect("the mapping keeps it");
        gpu.release(again).expect("released");
        gpu.unmap(at, G).expect("unmapped");
        assert_eq!(import(fd), Err(Code::INVALID_VALUE), "gone");
        assert_eq!(import(-1), Err(Code::INVALID_VALUE));
    });
}
