//! Copies: both sides resident, what comes from the host looked through for addresses.
//!
//! An address counts for what it is, not for what the call declares: a "host" pointer into our
//! heap is an operand like any other.

use super::range::{Side, sides_2d, sides_3d};
use super::{idle, real};
use crate::driver::types::{Memcpy2D, Memcpy3D};
use crate::driver::{CUdeviceptr, CUresult, Handle};
use crate::hook;
use crate::registry::streams::{LEGACY, slot_of};
use crate::residency::submit::{self, Operand};
use crate::residency::{engine, query};
use std::ffi::c_void;
use std::ptr::null_mut;

/// What a copy reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    operands: [Operand; 2],
    payload: Option<(*const u8, usize)>,
}

impl Move {
    fn new(to: Side, from: Side) -> Move {
        // Bytes from outside the heap that land where a kernel can read them. Whether they come
        // from the host shows when they are read: what cannot be is skipped.
        let lands = !to.host || query::covers(to.range.ptr);
        let brings = lands && from.range.len > 0 && !query::covers(from.range.ptr);
        let payload = brings.then_some((from.range.ptr as *const u8, from.range.len));
        Move { operands: [to.range, from.range], payload }
    }

    fn submit(&self, slot: u8, call: impl FnOnce() -> CUresult) -> CUresult {
        submit::submit(slot, &self.operands, self.payload, call)
    }
}

fn device(ptr: CUdeviceptr, len: usize) -> Side {
    Side { range: Operand { ptr, len }, host: false }
}

fn host(ptr: *const c_void, len: usize) -> Side {
    Side { range: Operand { ptr: ptr as u64, len }, host: true }
}

/// The slot of a call that takes no stream in its per-thread variant.
fn mine() -> u8 {
    slot_of(null_mut(), true)
}

/// One line a function: its arguments, the slot of its stream, destination and source.
macro_rules! copies {
    ($($name:ident($($arg:ident: $ty:ty),*) in $slot:expr, $to:expr, $from:expr;)*) => {hook! {$(
        fn $name($($arg: $ty),*) |api| {
            let call = || real!(api.$name($($arg),*));
            if idle() { call() } else { Move::new($to, $from).submit($slot, call) }
        }
    )*}};
}

copies! {
    cuMemcpyHtoD_v2(dst: CUdeviceptr, src: *const c_void, len: usize)
        in LEGACY, device(dst, len), host(src, len);
    cuMemcpyHtoD_v2_ptds(dst: CUdeviceptr, src: *const c_void, len: usize)
        in mine(), device(dst, len), host(src, len);
    cuMemcpyHtoDAsync_v2(dst: CUdeviceptr, src: *const c_void, len: usize, stream: Handle)
        in slot_of(stream, false), device(dst, len), host(src, len);
    cuMemcpyHtoDAsync_v2_ptsz(dst: CUdeviceptr, src: *const c_void, len: usize, stream: Handle)
        in slot_of(stream, true), device(dst, len), host(src, len);

    cuMemcpyDtoH_v2(dst: *mut c_void, src: CUdeviceptr, len: usize)
        in LEGACY, host(dst, len), device(src, len);
    cuMemcpyDtoH_v2_ptds(dst: *mut c_void, src: CUdeviceptr, len: usize)
        in mine(), host(dst, len), device(src, len);
    cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: CUdeviceptr, len: usize, stream: Handle)
        in slot_of(stream, false), host(dst, len), device(src, len);
    cuMemcpyDtoHAsync_v2_ptsz(dst: *mut c_void, src: CUdeviceptr, len: usize, stream: Handle)
        in slot_of(stream, true), host(dst, len), device(src, len);

    cuMemcpyPeer(dst: CUdeviceptr, to: Handle, src: CUdeviceptr, from: Handle, len: usize)
        in LEGACY, device(dst, len), device(src, len);
    cuMemcpyPeer_ptds(dst: CUdeviceptr, to: Handle, src: CUdeviceptr, from: Handle, len: usize)
        in mine(), device(dst, len), device(src, len);
    cuMemcpyPeerAsync(
        dst: CUdeviceptr, to: Handle, src: CUdeviceptr, from: Handle, len: usize, stream: Handle
    ) in slot_of(stream, false), device(dst, len), device(src, len);
    cuMemcpyPeerAsync_ptsz(
        dst: CUdeviceptr, to: Handle, src: CUdeviceptr, from: Handle, len: usize, stream: Handle
    ) in slot_of(stream, true), device(dst, len), device(src, len);
}

/// As `copies`, for copies between any two addresses: across devices the peer form is called,
/// since mapped memory (unlike the driver's own) is not reached by the plain one.
macro_rules! any_copies {
    ($($name:ident, $peer:ident($dst:ident, $src:ident, $len:ident $(, $on:ident)?) in $slot:expr;)*)
    => {hook! {$(
        fn $name($dst: CUdeviceptr, $src: CUdeviceptr, $len: usize $(, $on: Handle)?) |api| {
            let call = || match across($dst, $src) {
                Some((to, from)) => real!(api.$peer($dst, to, $src, from, $len $(, $on)?)),
                None => real!(api.$name($dst, $src, $len $(, $on)?)),
            };
            if idle() {
                call()
            } else {
                Move::new(device($dst, $len), device($src, $len)).submit($slot, call)
            }
        }
    )*}};
}

any_copies! {
    cuMemcpy, cuMemcpyPeer(dst, src, len) in LEGACY;
    cuMemcpy_ptds, cuMemcpyPeer_ptds(dst, src, len) in mine();
    cuMemcpyAsync, cuMemcpyPeerAsync(dst, src, len, stream) in slot_of(stream, false);
    cuMemcpyAsync_ptsz, cuMemcpyPeerAsync_ptsz(dst, src, len, stream) in slot_of(stream, true);
    cuMemcpyDtoD_v2, cuMemcpyPeer(dst, src, len) in LEGACY;
    cuMemcpyDtoD_v2_ptds, cuMemcpyPeer_ptds(dst, src, len) in mine();
    cuMemcpyDtoDAsync_v2, cuMemcpyPeerAsync(dst, src, len, stream) in slot_of(stream, false);
    cuMemcpyDtoDAsync_v2_ptsz, cuMemcpyPeerAsync_ptsz(dst, src, len, stream)
        in slot_of(stream, true);
}

/// The contexts of two allocations of ours, destination first, if their devices differ.
fn across(dst: CUdeviceptr, src: CUdeviceptr) -> Option<(Handle, Handle)> {
    if engine::devices().len() < 2 {
        return None;
    }
    let (to, from) = (query::find(dst)?, query::find(src)?);
    let differ = to.device != from.device;
    differ.then_some((to.allocation.ctx as Handle, from.allocation.ctx as Handle))
}

/// As `copies`, for calls that pass a description.
macro_rules! described {
    ($($name:ident($copy:ident: $ty:ty $(, $on:ident)?) by $sides:path, $slot:expr;)*) => {hook! {$(
        fn $name($copy: *const $ty $(, $on: Handle)?) |api| {
            let call = || real!(api.$name($copy $(, $on)?));
            // SAFETY: the program passes a description, or null.
            match unsafe { $copy.as_ref() } {
                Some(copy) if !idle() => {
                    let (to, from) = $sides(copy);
                    Move::new(to, from).submit($slot, call)
                }
                _ => call(),
            }
        }
    )*}};
}

described! {
    cuMemcpy2D_v2(copy: Memcpy2D) by sides_2d, LEGACY;
    cuMemcpy2D_v2_ptds(copy: Memcpy2D) by sides_2d, mine();
    cuMemcpy2DUnaligned_v2(copy: Memcpy2D) by sides_2d, LEGACY;
    cuMemcpy2DUnaligned_v2_ptds(copy: Memcpy2D) by sides_2d, mine();
    cuMemcpy2DAsync_v2(copy: Memcpy2D, stream) by sides_2d, slot_of(stream, false);
    cuMemcpy2DAsync_v2_ptsz(copy: Memcpy2D, stream) by sides_2d, slot_of(stream, true);
    cuMemcpy3D_v2(copy: Memcpy3D) by sides_3d, LEGACY;
    cuMemcpy3D_v2_ptds(copy: Memcpy3D) by sides_3d, mine();
    cuMemcpy3DAsync_v2(copy: Memcpy3D, stream) by sides_3d, slot_of(stream, false);
    cuMemcpy3DAsync_v2_ptsz(copy: Memcpy3D, stream) by sides_3d, slot_of(stream, true);
    cuMemcpy3DPeer(copy: Memcpy3D) by sides_3d, LEGACY;
    cuMemcpy3DPeer_ptds(copy: Memcpy3D) by sides_3d, mine();
    cuMemcpy3DPeerAsync(copy: Memcpy3D, stream) by sides_3d, slot_of(stream, false);
    cuMemcpy3DPeerAsync_ptsz(copy: Memcpy3D, stream) by sides_3d, slot_of(stream, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lands_on_the_device_is_looked_through() {
        let bytes = [0u8; 64];
        let at = bytes.as_ptr().cast::<c_void>();
        let up = Move::new(device(0x10, 64), host(at, 64));
        assert_eq!(up.payload, Some((bytes.as_ptr(), 64)));
        assert_eq!(up.operands[0], Operand { ptr: 0x10, len: 64 });
        assert_eq!(Move::new(host(at, 64), device(0x10, 64)).payload, None);
        assert_eq!(Move::new(device(0x10, 0), host(at, 0)).payload, None);
        // Which of two plain addresses is the host's is not declared.
        assert!(Move::new(device(0x10, 64), device(at as u64, 64)).payload.is_some());
    }
}
