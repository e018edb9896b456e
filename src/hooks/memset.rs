//! Memsets: the range they write is resident.

use super::range::rows;
use super::{idle, real};
use crate::driver::{CUdeviceptr, Handle};
use crate::hook;
use crate::registry::streams::{LEGACY, slot_of};
use crate::residency::submit::{self, Operand};
use std::ptr::null_mut;

/// The eight forms of one element type: plain, per-thread, and the same two with a stream, each
/// for a range and for rows of a pitched one.
macro_rules! memsets {
    ($($ty:ty: $one:ident $one_ptds:ident $one_async:ident $one_ptsz:ident
       $rows:ident $rows_ptds:ident $rows_async:ident $rows_ptsz:ident;)*) => {$(
        memsets! { range $ty, LEGACY, $one() }
        memsets! { range $ty, slot_of(null_mut(), true), $one_ptds() }
        memsets! { range $ty, slot_of(stream, false), $one_async(stream) }
        memsets! { range $ty, slot_of(stream, true), $one_ptsz(stream) }
        memsets! { rows $ty, LEGACY, $rows() }
        memsets! { rows $ty, slot_of(null_mut(), true), $rows_ptds() }
        memsets! { rows $ty, slot_of(stream, false), $rows_async(stream) }
        memsets! { rows $ty, slot_of(stream, true), $rows_ptsz(stream) }
    )*};
    (range $ty:ty, $slot:expr, $name:ident($($stream:ident)?)) => {hook! {
        fn $name(dst: CUdeviceptr, value: $ty, n: usize $(, $stream: Handle)?) |api| {
            let call = || real!(api.$name(dst, value, n $(, $stream)?));
            if idle() {
                return call();
            }
            let range = Operand { ptr: dst, len: n.saturating_mul(size_of::<$ty>()) };
            submit::submit($slot, &[range], None, call)
        }
    }};
    (rows $ty:ty, $slot:expr, $name:ident($($stream:ident)?)) => {hook! {
        fn $name(
            dst: CUdeviceptr, pitch: usize, value: $ty, width: usize, height: usize
            $(, $stream: Handle)?
        ) |api| {
            let call = || real!(api.$name(dst, pitch, value, width, height $(, $stream)?));
            if idle() {
                return call();
            }
            let range = rows(dst, pitch, size_of::<$ty>(), width, height);
            submit::submit($slot, &[range], None, call)
        }
    }};
}

memsets! {
    u8: cuMemsetD8_v2 cuMemsetD8_v2_ptds cuMemsetD8Async cuMemsetD8Async_ptsz
        cuMemsetD2D8_v2 cuMemsetD2D8_v2_ptds cuMemsetD2D8Async cuMemsetD2D8Async_ptsz;
    u16: cuMemsetD16_v2 cuMemsetD16_v2_ptds cuMemsetD16Async cuMemsetD16Async_ptsz
        cuMemsetD2D16_v2 cuMemsetD2D16_v2_ptds cuMemsetD2D16Async cuMemsetD2D16Async_ptsz;
    u32: cuMemsetD32_v2 cuMemsetD32_v2_ptds cuMemsetD32Async cuMemsetD32Async_ptsz
        cuMemsetD2D32_v2 cuMemsetD2D32_v2_ptds cuMemsetD2D32Async cuMemsetD2D32Async_ptsz;
}
