//! Launches. Parameters are copied at the call, as the driver does.

use crate::abi::{Handle, LaunchConfig, Outcome, code};
use crate::entry::api;
use crate::work::{Kernel, Work};
use crate::{loaded, report, stream, trace};
use std::ffi::c_void;

const POINTER: usize = 1;
const SIZE: usize = 2;

fn launch(
    f: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    on: Handle,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Outcome {
    let stream = stream::find(on)?;
    let function = loaded::find_function(f)?;
    let threads = block.iter().map(|&b| u64::from(b)).product::<u64>();
    if grid.contains(&0) || threads == 0 || threads > 1024 {
        return Err(code::INVALID_VALUE);
    }
    let info = function.info();
    let bytes = info.params.iter().map(|&(at, size)| at + size).max().unwrap_or(0) as usize;
    let mut buffer = vec![0u64; bytes.div_ceil(8).max(1)];
    let to = buffer.as_mut_ptr().cast::<u8>();
    if !params.is_null() {
        for (i, &(at, size)) in info.params.iter().enumerate() {
            // SAFETY: the program passes one pointer to `size` bytes for each parameter; the
            // buffer is as long as the farthest one.
            unsafe {
                let from = (*params.add(i)).cast::<u8>();
                if from.is_null() {
                    return Err(code::INVALID_VALUE);
                }
                std::ptr::copy_nonoverlapping(from, to.add(at as usize), size as usize);
            }
        }
    } else if !extra.is_null() {
        // SAFETY: a list of pairs that ends with a null, as the ABI says.
        let (from, len) = unsafe { read_extra(extra) };
        if from.is_null() && bytes > 0 {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the program says that `len` bytes are there; never more than the buffer.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to, len.min(bytes)) };
    } else if !info.params.is_empty() {
        return Err(code::INVALID_VALUE);
    }
    report::launched();
    if trace::on() {
        let raw: Vec<u8> = buffer.iter().flat_map(|w| w.to_le_bytes()).take(bytes).collect();
        trace::launch(&info.name.to_string_lossy(), grid, block, &raw);
    }
    let kernel = Kernel {
        name: info.name.to_string_lossy().into_owned(),
        image: function.image.clone(),
        index: function.index,
        grid,
        block,
        shared,
        params: buffer,
    };
    stream.submit(Some(Work::Kernel(Box::new(kernel)))).map(drop)
}

unsafe fn read_extra(extra: *mut *mut c_void) -> (*const c_void, usize) {
    let (mut from, mut len) = (std::ptr::null(), 0);
    let mut at = extra;
    // SAFETY: the caller vouches for a terminated list of pairs.
    unsafe {
        while !(*at).is_null() {
            match *at as usize {
                POINTER => from = (*at.add(1)).cast_const(),
                SIZE => len = (*at.add(1)).cast::<usize>().read(),
                _ => break,
            }
            at = at.add(2);
        }
    }
    (from, len)
}

api! {
    fn cuLaunchKernel | cuLaunchKernel_ptsz(f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, on: Handle, params: *mut *mut c_void, extra: *mut *mut c_void) {
        launch(f, [gx, gy, gz], [bx, by, bz], shared, on, params, extra)
    }
    fn cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz(f: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, on: Handle, params: *mut *mut c_void) {
        launch(f, [gx, gy, gz], [bx, by, bz], shared, on, params, std::ptr::null_mut())
    }
    fn cuLaunchKernelEx | cuLaunchKernelEx_ptsz(config: *const LaunchConfig, f: Handle, params: *mut *mut c_void, extra: *mut *mut c_void) {
        // SAFETY: the program passes a structure or null.
        let c = unsafe { config.as_ref() }.ok_or(code::INVALID_VALUE)?;
        launch(f, c.grid, c.block, c.shared, c.stream, params, extra)
    }
}
