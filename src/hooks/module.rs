//! Modules and libraries: their globals can hold addresses, their handles are used again.

use super::{answer, real};
use crate::driver::{CUdeviceptr, CUresult, Handle, code};
use crate::hook;
use crate::registry::contexts::{self, Context};
use crate::registry::{functions, globals};
use std::ffi::c_char;

hook! {
    fn cuModuleUnload(module: Handle) |api| {
        functions::unloading();
        let forgotten = globals::unloading(module as usize);
        let result = real!(api.cuModuleUnload(module));
        if result != code::SUCCESS {
            globals::remember(forgotten);
        }
        result
    }

    fn cuModuleGetGlobal_v2(
        dptr: *mut CUdeviceptr,
        bytes: *mut usize,
        module: Handle,
        name: *const c_char,
    ) |api| {
        let context = match contexts::ask() {
            Ok(context) => context,
            Err(e) => return e,
        };
        let (mut at, mut len) = (0, 0);
        let result = real!(api.cuModuleGetGlobal_v2(&mut at, &mut len, module, name));
        // SAFETY: the program's own pointers, each of which may be null.
        unsafe { global((module, context), (at, dptr), (len, bytes), result) }
    }

    fn cuLibraryGetGlobal(
        dptr: *mut CUdeviceptr,
        bytes: *mut usize,
        library: Handle,
        name: *const c_char,
    ) |api| {
        let context = match contexts::ask() {
            Ok(context) => context,
            Err(e) => return e,
        };
        let (mut at, mut len) = (0, 0);
        let result = real!(api.cuLibraryGetGlobal(&mut at, &mut len, library, name));
        // SAFETY: as above.
        unsafe { global((library, context), (at, dptr), (len, bytes), result) }
    }

    fn cuLibraryUnload(library: Handle) |api| {
        let kernels = functions::library_unloading(library);
        let forgotten = globals::unloading(library as usize);
        let result = real!(api.cuLibraryUnload(library));
        if result != code::SUCCESS {
            kernels.into_iter().for_each(|kernel| functions::note_kernel(kernel, library));
            globals::remember(forgotten);
        }
        result
    }

    fn cuLibraryGetKernel(kernel: *mut Handle, library: Handle, name: *const c_char) |api| {
        let result = real!(api.cuLibraryGetKernel(kernel, library, name));
        if result == code::SUCCESS && !kernel.is_null() {
            // SAFETY: the driver has written it.
            functions::note_kernel(unsafe { *kernel }, library);
        }
        result
    }

    fn cuLibraryEnumerateKernels(kernels: *mut Handle, n: u32, library: Handle) |api| {
        let mut count = 0;
        // SAFETY: a live local. What fails here fails below.
        unsafe { (api.cuLibraryGetKernelCount)(&mut count, library) };
        let result = real!(api.cuLibraryEnumerateKernels(kernels, n, library));
        if result == code::SUCCESS && !kernels.is_null() {
            for i in 0..n.min(count) as usize {
                // SAFETY: the driver fills as many as there are, at most `n`.
                functions::note_kernel(unsafe { *kernels.add(i) }, library);
            }
        }
        result
    }
}

/// Remembers a global and tells the program what it asked for.
///
/// # Safety
/// The two pointers are null or may be written.
unsafe fn global(
    (module, context): (Handle, Option<Context>),
    (at, dptr): (CUdeviceptr, *mut CUdeviceptr),
    (len, bytes): (usize, *mut usize),
    result: CUresult,
) -> CUresult {
    if result == code::SUCCESS {
        if let Some(context) = context {
            globals::add(module as usize, at, len, context);
        }
        // SAFETY: the caller's promise.
        unsafe {
            answer(dptr, at);
            answer(bytes, len);
        }
    }
    result
}
