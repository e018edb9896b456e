//! Modules, libraries, kernels and launches.

use crate::gpu::{Gpu, IMAGE, alone, filled};
use cuda_client::{Code, Extra, Function, Grid, Stream};

const NULL: Stream = Stream::NULL;
const ROW: &str = "cp_demo_shared_row";

#[test]
fn every_load_is_a_module_of_its_own() {
    alone(&[], || {
        let gpu = Gpu::started();
        let mut known = Vec::new();
        let a = gpu.kernels();
        let b = gpu.kernels();
        for round in 0..4 {
            // Loaded and unloaded in between: file numbers and handles come back.
            let c = gpu.kernels();
            let globals = [a, b, c].map(|m| gpu.module_global(m, ROW).expect("a global"));
            assert!(globals[0] != globals[1] && globals[1] != globals[2] && globals[0].1 == 16);
            for (i, (at, _)) in globals.iter().enumerate() {
                gpu.upload(*at, &[(10 * round + i) as u64, 1]).expect("written");
            }
            for (i, (at, _)) in globals.iter().enumerate() {
                assert_eq!(gpu.read::<u64>(*at, 2), Ok(vec![(10 * round + i) as u64, 1]));
            }
            known.push(c);
            gpu.module_unload(c).expect("unloaded");
            assert_eq!(gpu.module_unload(c), Err(Code::INVALID_HANDLE));
        }
        assert_eq!(gpu.module_global(known[0], ROW), Err(Code::INVALID_HANDLE));
    });
}

#[test]
fn kernels_reach_memory_by_pointer_and_by_global() {
    alone(&[], || {
        let gpu = Gpu::started();
        let module = gpu.kernels();
        let words = 1000u32;
        let data = gpu.mem_alloc(4000).expect("memory");
        let to = gpu.mem_alloc(4000).expect("memory");
        let fill = gpu.function(module, "cp_demo_fill").expect("a kernel");
        assert_eq!(gpu.function(module, "cp_demo_fill"), Ok(fill), "the same every time");
        gpu.fill(fill, data, words.into(), 7, NULL).expect("launched");
        assert_eq!(gpu.read::<u32>(data, 1000), Ok(filled(words, 7)));
        let (row, _) = gpu.module_global(module, ROW).expect("a global");
        gpu.upload(row, &[data, u64::from(words)]).expect("written");
        gpu.set_d32(to, 0, 1000).expect("set");
        let from_global = gpu.function(module, "cp_demo_from_global").expect("a kernel");
        let extra = Extra::default().push(to).push(u64::from(words));
        // SAFETY: the kernel's parameters.
        unsafe { gpu.launch_extra(from_global, Grid::cover(1000, 128), NULL, &extra) }
            .expect("launched");
        let got = gpu.read::<u32>(to, 1000).expect("read");
        let expected: Vec<u32> = filled(words, 7).iter().map(|&x| filled(1, x)[0]).collect();
        assert_eq!(got, expected);
    });
}

#[test]
fn launches_are_checked() {
    alone(&[], || {
        let gpu = Gpu::started();
        let module = gpu.kernels();
        let fill = gpu.function(module, "cp_demo_fill").expect("a kernel");
        assert_eq!(gpu.function(module, "no_such_kernel"), Err(Code::NOT_FOUND));
        assert_eq!(gpu.function_param(fill, 0), Ok((0, 8)));
        assert_eq!(gpu.function_param(fill, 2), Ok((16, 4)));
        assert_eq!(gpu.function_param(fill, 3), Err(Code::INVALID_VALUE));
        let at = gpu.mem_alloc(64).expect("memory");
        let extra = Extra::default().push(at).push(4u64).push(0u32);
        for (blocks, threads) in [(0, 32), (1, 0), (1, 1025)] {
            // SAFETY: the kernel's parameters.
            let launched =
                unsafe { gpu.launch_extra(fill, Grid::line(blocks, threads), NULL, &extra) };
            assert_eq!(launched, Err(Code::INVALID_VALUE), "{blocks} {threads}");
        }
        // SAFETY: no such function, so no parameters are read.
        let launched = unsafe { gpu.launch_extra(Function(4711), Grid::line(1, 1), NULL, &extra) };
        assert_eq!(launched, Err(Code::INVALID_HANDLE));
    });
}

#[test]
fn queued_kernels_outlive_their_module() {
    alone(&[("SIMCUDA_STREAMS", "lazy:100")], || {
        let gpu = Gpu::started();
        let module = gpu.kernels();
        let fill = gpu.function(module, "cp_demo_fill").expect("a kernel");
        let at = gpu.mem_alloc(4096).expect("memory");
        gpu.fill(fill, at, 100, 3, NULL).expect("queued");
        gpu.module_unload(module).expect("unloaded");
        assert_eq!(gpu.fill(fill, at, 100, 4, NULL), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.read::<u32>(at, 100), Ok(filled(100, 3)));
    });
}

#[test]
fn a_library_has_one_module_in_a_context() {
    alone(&[], || {
        let gpu = Gpu::started();
        // SAFETY: a whole image.
        let library = unsafe { gpu.library_load(IMAGE) }.expect("loaded");
        let module = gpu.library_module(library).expect("a module");
        assert_eq!(gpu.library_module(library), Ok(module));
        assert_eq!(gpu.module_unload(module), Err(Code::NOT_PERMITTED));
        let kernel = gpu.kernel(library, "cp_demo_fill").expect("a kernel");
        assert_eq!(gpu.kernel_name(kernel).as_deref(), Ok("cp_demo_fill"));
        let function = gpu.kernel_function(kernel).expect("a function");
        assert_ne!(function.0, kernel.0);
        assert_eq!(gpu.function_module(function), Ok(module));
        assert_eq!(gpu.kernel_function(cuda_client::Kernel(function.0)), Err(Code::INVALID_HANDLE));
        let at = gpu.mem_alloc(4096).expect("memory");
        gpu.fill(kernel, at, 16, 1, NULL).expect("launched");
        gpu.fill(function, at + 64, 16, 2, NULL).expect("launched");
        assert_eq!(gpu.read::<u32>(at, 16), Ok(filled(16, 1)));
        assert_eq!(gpu.read::<u32>(at + 64, 16), Ok(filled(16, 2)));
        gpu.ctx_create(0, 0).expect("another context");
        assert_ne!(gpu.library_module(library), Ok(module));
        gpu.library_unload(library).expect("unloaded");
        assert_eq!(gpu.function(module, "cp_demo_fill"), Err(Code::INVALID_HANDLE));
    });
}
