//! Fills.

use crate::abi::{CUdeviceptr, Handle, Outcome, code};
use crate::entry::api;
use crate::guard::Fill;
use crate::work::Work;
use crate::{memory, schedule, stream};

fn fill(on: Handle, what: Fill, wait: bool) -> Outcome {
    let stream = stream::find(on)?;
    if what.width == 0 || what.height == 0 {
        return Ok(());
    }
    let row = (what.width as u64).checked_mul(u64::from(what.bytes));
    let rows = (what.height as u64 - 1).checked_mul(what.pitch as u64);
    let sizes = row.zip(rows).and_then(|(row, rows)| Some((row, row.checked_add(rows)?)));
    let (row, span) = sizes.ok_or(code::INVALID_VALUE)?;
    let at = what.dst;
    if !memory::known_device_range(at, span)
        || !at.is_multiple_of(u64::from(what.bytes))
        || (what.height > 1 && (what.pitch as u64) < row)
    {
        return Err(code::INVALID_VALUE);
    }
    let item = stream.submit(Some(Work::Fill(what)))?;
    if wait {
        schedule::wait(&item);
        match stream.context()?.sticky() {
            0 => {}
            e => return Err(e),
        }
    }
    Ok(())
}

fn flat(dst: u64, value: u32, bytes: u32, n: usize) -> Fill {
    Fill { dst, value, bytes, width: n, height: 1, pitch: 0 }
}

const NULL: Handle = std::ptr::null_mut();

api! {
    fn cuMemsetD8_v2 | cuMemsetD8_v2_ptds(dst: CUdeviceptr, value: u8, n: usize) {
        fill(NULL, flat(dst, value.into(), 1, n), true)
    }
    fn cuMemsetD16_v2 | cuMemsetD16_v2_ptds(dst: CUdeviceptr, value: u16, n: usize) {
        fill(NULL, flat(dst, value.into(), 2, n), true)
    }
    fn cuMemsetD32_v2 | cuMemsetD32_v2_ptds(dst: CUdeviceptr, value: u32, n: usize) {
        fill(NULL, flat(dst, value, 4, n), true)
    }
    fn cuMemsetD8Async | cuMemsetD8Async_ptsz(dst: CUdeviceptr, value: u8, n: usize, on: Handle) {
        fill(on, flat(dst, value.into(), 1, n), false)
    }
    fn cuMemsetD16Async | cuMemsetD16Async_ptsz(dst: CUdeviceptr, value: u16, n: usize, on: Handle) {
        fill(on, flat(dst, value.into(), 2, n), false)
    }
    fn cuMemsetD32Async | cuMemsetD32Async_ptsz(dst: CUdeviceptr, value: u32, n: usize, on: Handle) {
        fill(on, flat(dst, value, 4, n), false)
    }
    fn cuMemsetD2D8_v2 | cuMemsetD2D8_v2_ptds(dst: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize) {
        fill(NULL, Fill { dst, value: value.into(), bytes: 1, width, height, pitch }, true)
    }
    fn cuMemsetD2D16_v2 | cuMemsetD2D16_v2_ptds(dst: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize) {
        fill(NULL, Fill { dst, value: value.into(), bytes: 2, width, height, pitch }, true)
    }
    fn cuMemsetD2D32_v2 | cuMemsetD2D32_v2_ptds(dst: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize) {
        fill(NULL, Fill { dst, value, bytes: 4, width, height, pitch }, true)
    }
    fn cuMemsetD2D8Async | cuMemsetD2D8Async_ptsz(dst: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize, on: Handle) {
        fill(on, Fill { dst, value: value.into(), bytes: 1, width, height, pitch }, false)
    }
    fn cuMemsetD2D16Async | cuMemsetD2D16Async_ptsz(dst: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize, on: Handle) {
        fill(on, Fill { dst, value: value.into(), bytes: 2, width, height, pitch }, false)
    }
    fn cuMemsetD2D32Async | cuMemsetD2D32Async_ptsz(dst: CUdeviceptr, pitch: usize, value: u32, width: usize, height: usize, on: Handle) {
        fill(on, Fill { dst, value, bytes: 4, width, height, pitch }, false)
    }
}
