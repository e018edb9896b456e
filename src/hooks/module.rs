//! Modules and libraries: their globals can hold addresses, their handles are used again.

use super::{answer, real};
use crate::driver::{CUdeviceptr, CUresult, Handle, code};
use crate::hook;
use crate::intercept::guard;
use crate::registry::contexts::{self, Context};
use crate::registry::{functions, globals};
use std::ffi::c_char;

hook! {
    fn cuModuleUnload(module: Handle) |api| {
        functions::unloading();
        let hidden = globals::unloading(module as usize);
        let result = real!(api.cuModuleUnload(module));
        if result != code::SUCCESS {
            hidden.stay();
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
        let result = guard::real(|| {
            // SAFETY: the program's own call, and its own pointers, each of which may be null.
            unsafe {
                let result = (api.cuModuleGetGlobal_v2)(&mut at, &mut len, module, name);
                answered(result, (at, dptr), (len, bytes))
            }
        });
        global((module, context), at, len, result)
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
        let result = guard::real(|| {
            // SAFETY: as above.
            unsafe {
                let result = (api.cuLibraryGetGlobal)(&mut at, &mut len, library, name);
                answered(result, (at, dptr), (len, bytes))
            }
        });
        global((library, context), at, len, result)
    }

    fn cuLibraryUnload(library: Handle) |api| {
        let kernels = functions::library_unloading(library);
        let hidden = globals::unloading(library as usize);
        let result = real!(api.cuLibraryUnload(library));
        if result != code::SUCCESS {
            kernels.into_iter().for_each(|kernel| functions::note_kernel(kernel, library));
            hidden.stay();
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

/// Tells the program what it asked for: with the call, so that a panic after it changes nothing.
///
/// # Safety
/// The two pointers are null or may be written.
unsafe fn answered(
    result: CUresult,
    (at, dptr): (CUdeviceptr, *mut CUdeviceptr),
    (len, bytes): (usize, *mut usize),
) -> CUresult {
    if result == code::SUCCESS {
        // SAFETY: the caller's promise.
        unsafe {
            answer(dptr, at);
            answer(bytes, len);
        }
    }
    result
}

/// Remembers a global that the driver has told of.
fn global(
    (module, context): (Handle, Option<Context>),
    at: CUdeviceptr,
    len: usize,
    result: CUresult,
) -> CUresult {
    if let (code::SUCCESS, Some(context)) = (result, context) {
        globals::add(module as usize, at, len, context);
    }
    result
}
