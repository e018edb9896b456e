//! Modules, libraries and their kernels.

use super::out;
use crate::abi::{CUdeviceptr, Handle, Outcome, code};
use crate::entry::api;
use crate::loaded::{self, Kind};
use crate::{context, image};
use std::ffi::{CStr, c_char, c_void};

fn load(data: *const c_void, library: bool) -> Outcome<Handle> {
    let (kind, ctx) = if library {
        crate::sim::ready()?;
        (Kind::Library, 0)
    } else {
        (Kind::Module, context::current()?.handle() as usize)
    };
    // SAFETY: the program passes a whole image, as the ABI says.
    let image = unsafe { image::load(data.cast()) }?;
    Ok(loaded::add(image, kind, ctx))
}

fn load_file(path: *const c_char, library: bool) -> Outcome<Handle> {
    if path.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a C string by the ABI.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let bytes = std::fs::read(path).map_err(|_| code::FILE_NOT_FOUND)?;
    // SAFETY: as many bytes as the headers of any image have.
    if bytes.len() < 64 || unsafe { image::length(bytes.as_ptr()) }? > bytes.len() {
        return Err(code::INVALID_IMAGE);
    }
    load(bytes.as_ptr().cast(), library)
}

fn by_name(owner: Handle, name: *const c_char, library: bool) -> Outcome<Handle> {
    if name.is_null() {
        return Err(code::INVALID_VALUE);
    }
    let image = loaded::find(owner, library)?;
    // SAFETY: a C string by the ABI.
    let name = unsafe { CStr::from_ptr(name) };
    let index = image.kernels.iter().position(|k| k.name.as_c_str() == name);
    loaded::function(owner, index.ok_or(code::NOT_FOUND)?, library, library)
}

fn global(owner: Handle, name: *const c_char, library: bool) -> Outcome<(u64, u64)> {
    if name.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: a C string by the ABI.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    loaded::find(owner, library)?.global(&name).ok_or(code::NOT_FOUND)
}

fn write_global(ptr: *mut CUdeviceptr, bytes: *mut usize, found: (u64, u64)) -> Outcome {
    if !ptr.is_null() {
        out(ptr, found.0)?;
    }
    if !bytes.is_null() {
        out(bytes, found.1 as usize)?;
    }
    Ok(())
}

fn param(f: Handle, index: usize, offset: *mut usize, size: *mut usize, kernel: bool) -> Outcome {
    let function = loaded::find_function(f)?;
    if function.kernel != kernel {
        return Err(code::INVALID_HANDLE);
    }
    let &(at, bytes) = function.info().params.get(index).ok_or(code::INVALID_VALUE)?;
    out(offset, at as usize)?;
    if size.is_null() { Ok(()) } else { out(size, bytes as usize) }
}

fn attribute(value: *mut i32, which: i32, f: Handle) -> Outcome {
    loaded::find_function(f)?;
    out(
        value,
        match which {
            0 => 1024,
            4 => 32,
            5 | 6 => 90,
            8 => 227 << 10,
            _ => 0,
        },
    )
}

api! {
    fn cuModuleLoadData(module: *mut Handle, data: *const c_void) {
        out(module, load(data, false)?)
    }
    fn cuModuleLoadDataEx(module: *mut Handle, data: *const c_void, _n: u32, _options: *mut i32, _values: *mut *mut c_void) {
        out(module, load(data, false)?)
    }
    fn cuModuleLoadFatBinary(module: *mut Handle, data: *const c_void) {
        out(module, load(data, false)?)
    }
    fn cuModuleLoad(module: *mut Handle, path: *const c_char) {
        out(module, load_file(path, false)?)
    }
    fn cuModuleUnload(module: Handle) {
        // Kernels of it may still be queued; they keep the image, not the handle.
        loaded::unload(module, false)
    }
    fn cuModuleGetFunction(f: *mut Handle, module: Handle, name: *const c_char) {
        out(f, by_name(module, name, false)?)
    }
    fn cuModuleGetGlobal_v2(ptr: *mut CUdeviceptr, bytes: *mut usize, module: Handle, name: *const c_char) {
        write_global(ptr, bytes, global(module, name, false)?)
    }
    fn cuModuleGetFunctionCount(count: *mut u32, module: Handle) {
        out(count, loaded::find(module, false)?.kernels.len() as u32)
    }
    fn cuModuleEnumerateFunctions(list: *mut Handle, n: u32, module: Handle) {
        let count = loaded::find(module, false)?.kernels.len();
        for i in 0..count.min(n as usize) {
            // SAFETY: the program says that `n` entries are there.
            out(unsafe { list.add(i) }, loaded::function(module, i, false, false)?)?;
        }
        Ok(())
    }
    fn cuModuleGetLoadingMode(mode: *mut i32) {
        out(mode, 1)
    }
    fn cuLibraryLoadData(library: *mut Handle, data: *const c_void, _a: *mut i32, _b: *mut *mut c_void, _c: u32, _d: *mut i32, _e: *mut *mut c_void, _f: u32) {
        out(library, load(data, true)?)
    }
    fn cuLibraryLoadFromFile(library: *mut Handle, path: *const c_char, _a: *mut i32, _b: *mut *mut c_void, _c: u32, _d: *mut i32, _e: *mut *mut c_void, _f: u32) {
        out(library, load_file(path, true)?)
    }
    fn cuLibraryUnload(library: Handle) {
        loaded::unload(library, true)
    }
    fn cuLibraryGetKernel(kernel: *mut Handle, library: Handle, name: *const c_char) {
        out(kernel, by_name(library, name, true)?)
    }
    fn cuLibraryGetKernelCount(count: *mut u32, library: Handle) {
        out(count, loaded::find(library, true)?.kernels.len() as u32)
    }
    fn cuLibraryEnumerateKernels(list: *mut Handle, n: u32, library: Handle) {
        let count = loaded::find(library, true)?.kernels.len();
        for i in 0..count.min(n as usize) {
            // SAFETY: the program says that `n` entries are there.
            out(unsafe { list.add(i) }, loaded::function(library, i, true, true)?)?;
        }
        Ok(())
    }
    fn cuLibraryGetGlobal(ptr: *mut CUdeviceptr, bytes: *mut usize, library: Handle, name: *const c_char) {
        write_global(ptr, bytes, global(library, name, true)?)
    }
    fn cuLibraryGetModule(module: *mut Handle, library: Handle) {
        let ctx = context::current()?;
        out(module, loaded::module_of(library, ctx.handle() as usize)?)
    }
    fn cuKernelGetFunction(f: *mut Handle, kernel: Handle) {
        let found = loaded::find_function(kernel)?;
        if !found.kernel {
            return Err(code::INVALID_HANDLE);
        }
        out(f, loaded::function(found.owner as Handle, found.index, true, false)?)
    }
    fn cuKernelGetLibrary(library: *mut Handle, kernel: Handle) {
        let found = loaded::find_function(kernel)?;
        if !found.kernel {
            return Err(code::INVALID_HANDLE);
        }
        out(library, found.owner as Handle)
    }
    fn cuKernelGetName(name: *mut *const c_char, kernel: Handle) {
        out(name, loaded::find_function(kernel)?.info().name.as_ptr())
    }
    fn cuFuncGetName(name: *mut *const c_char, f: Handle) {
        out(name, loaded::find_function(f)?.info().name.as_ptr())
    }
    fn cuFuncGetModule(module: *mut Handle, f: Handle) {
        let function = loaded::find_function(f)?;
        match loaded::library_of(&function) {
            None => out(module, function.owner as Handle),
            Some(library) => {
                let ctx = context::current()?;
                out(module, loaded::module_of(library, ctx.handle() as usize)?)
            }
        }
    }
    fn cuFuncGetParamInfo(f: Handle, index: usize, offset: *mut usize, size: *mut usize) {
        param(f, index, offset, size, false)
    }
    fn cuKernelGetParamInfo(f: Handle, index: usize, offset: *mut usize, size: *mut usize) {
        param(f, index, offset, size, true)
    }
    fn cuFuncGetParamCount(f: Handle, count: *mut usize) {
        out(count, loaded::find_function(f)?.info().params.len())
    }
    fn cuKernelGetParamCount(f: Handle, count: *mut usize) {
        out(count, loaded::find_function(f)?.info().params.len())
    }
    fn cuFuncGetAttribute(value: *mut i32, which: i32, f: Handle) {
        attribute(value, which, f)
    }
    fn cuKernelGetAttribute(value: *mut i32, which: i32, f: Handle, _dev: i32) {
        attribute(value, which, f)
    }
    fn cuFuncSetAttribute(f: Handle, _which: i32, _value: i32) {
        loaded::find_function(f).map(drop)
    }
    fn cuKernelSetAttribute(_which: i32, _value: i32, f: Handle, _dev: i32) {
        loaded::find_function(f).map(drop)
    }
    fn cuFuncSetCacheConfig(f: Handle, _config: i32) {
        loaded::find_function(f).map(drop)
    }
    fn cuFuncSetSharedMemConfig(f: Handle, _config: i32) {
        loaded::find_function(f).map(drop)
    }
    fn cuKernelSetCacheConfig(f: Handle, _config: i32, dev: i32) {
        super::device(dev)?;
        loaded::find_function(f).map(drop)
    }
    fn cuLibraryGetManaged(_ptr: *mut CUdeviceptr, _bytes: *mut usize, library: Handle, _name: *const c_char) {
        // Images have no managed variables.
        loaded::find(library, true)?;
        Err(code::NOT_FOUND)
    }
    fn cuFuncLoad(f: Handle) {
        loaded::find_function(f).map(drop)
    }
    fn cuFuncIsLoaded(state: *mut i32, f: Handle) {
        loaded::find_function(f)?;
        out(state, 1)
    }
}
