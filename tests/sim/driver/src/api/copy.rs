//! Copies.
//!
//! A copy that involves pageable memory has used that memory when the call returns: its source is
//! snapshotted, and a call that writes pageable memory waits. Pinned memory is used in stream
//! order, and all host memory where the card reaches it by itself (`SIMCUDA_PAGEABLE`).

use crate::abi::{CUdeviceptr, Handle, Memcpy2D, Memcpy3D, Outcome, code, end};
use crate::entry::api;
use crate::guard::Copy;
use crate::space::SPACE;
use crate::stream::{self, Stream};
use crate::work::Work;
use crate::{flip, loaded, memory, schedule, settings};
use std::ffi::c_void;
use std::sync::Arc;

/// One side of a copy.
#[derive(Clone, Copy)]
enum Side {
    Device(u64),
    Host(u64),
}

/// Where an address is, by what it lies in.
fn classify(at: u64) -> Side {
    let device = memory::containing(at).is_some()
        || SPACE.lock().mapping(at).is_some()
        || loaded::global_containing(at).is_some();
    if device { Side::Device(at) } else { Side::Host(at) }
}

fn check_device(at: u64, bytes: u64) -> Outcome {
    if memory::known_device_range(at, bytes) { Ok(()) } else { Err(code::INVALID_VALUE) }
}

/// Whether a copy uses this host memory when its turn comes.
fn in_order(at: u64, bytes: u64) -> bool {
    settings::get().reaches_pageable || pinned(at, bytes)
}

fn pinned(at: u64, bytes: u64) -> bool {
    memory::host_containing(at as usize)
        .is_some_and(|(start, h)| end(at, bytes).is_ok_and(|e| e <= (start + h.bytes) as u64))
}

/// Bytes from the first to behind the last one of a box.
fn span(copy: &Copy, pitch: usize, slice: usize) -> Outcome<u64> {
    let slices = (copy.depth - 1).checked_mul(slice);
    let rows = (copy.height - 1).checked_mul(pitch);
    let sum = slices.zip(rows).and_then(|(s, r)| s.checked_add(r)?.checked_add(copy.width));
    sum.map(|s| s as u64).ok_or(code::INVALID_VALUE)
}

/// Where a box starts in its memory.
fn offset(parts: [(usize, usize); 2], x: usize) -> Outcome<usize> {
    let add = |sum: usize, (n, step): (usize, usize)| sum.checked_add(n.checked_mul(step)?);
    parts.into_iter().try_fold(x, add).ok_or(code::INVALID_VALUE)
}

/// Queues a copy. `wait` for the synchronous calls.
fn queue(stream: &Arc<Stream>, dst: Side, src: Side, mut copy: Copy, wait: bool) -> Outcome {
    if copy.width == 0 || copy.height == 0 || copy.depth == 0 {
        return Ok(());
    }
    let src_span = span(&copy, copy.src_pitch, copy.src_slice)?;
    let dst_span = span(&copy, copy.dst_pitch, copy.dst_slice)?;
    let mut staged = None;
    match src {
        Side::Device(at) => {
            check_device(at, src_span)?;
            copy.src = at;
        }
        Side::Host(0) => return Err(code::INVALID_VALUE),
        Side::Host(at) if in_order(at, src_span) || wait => copy.src = at,
        Side::Host(at) => {
            // SAFETY: the program says that the source is there; a fault here is the program's.
            let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, src_span as usize) };
            let bytes = bytes.to_vec();
            copy.src = bytes.as_ptr() as u64;
            staged = Some(bytes);
        }
    }
    let mut wait = wait;
    match dst {
        Side::Device(at) => {
            check_device(at, dst_span)?;
            copy.dst = at;
        }
        Side::Host(0) => return Err(code::INVALID_VALUE),
        Side::Host(at) => {
            copy.dst = at;
            wait |= !in_order(at, dst_span);
        }
    }
    let item = stream.submit(Some(Work::Copy { copy, staged, flip: flip::current() }))?;
    if wait {
        schedule::wait(&item);
        match stream.context()?.sticky() {
            0 => {}
            e => return Err(e),
        }
    }
    Ok(())
}

fn flat(on: Handle, dst: Side, src: Side, bytes: usize, wait: bool) -> Outcome {
    let stream = stream::find(on)?;
    queue(&stream, dst, src, Copy::flat(0, 0, bytes), wait)
}

const HOST: u32 = 1;
const DEVICE: u32 = 2;
const UNIFIED: u32 = 4;

fn side(kind: u32, host: u64, device: u64, offset: usize) -> Result<Side, u32> {
    match kind {
        HOST => Ok(Side::Host(end(host, offset as u64)?)),
        DEVICE => Ok(Side::Device(end(device, offset as u64)?)),
        UNIFIED => Ok(classify(end(device, offset as u64)?)),
        _ => Err(code::NOT_SUPPORTED),
    }
}

fn copy_2d(on: Handle, p: *const Memcpy2D, wait: bool) -> Outcome {
    let stream = stream::find(on)?;
    // SAFETY: the program passes a structure or null.
    let p = unsafe { p.as_ref() }.ok_or(code::INVALID_VALUE)?;
    let (src_pitch, dst_pitch) = (p.src_pitch.max(p.width), p.dst_pitch.max(p.width));
    if p.src_pitch != 0 && p.src_pitch < p.width || p.dst_pitch != 0 && p.dst_pitch < p.width {
        return Err(code::INVALID_VALUE);
    }
    let src = side(
        p.src_type,
        p.src_host as u64,
        p.src_device,
        offset([(0, 0), (p.src_y, src_pitch)], p.src_x)?,
    )?;
    let dst = side(
        p.dst_type,
        p.dst_host as u64,
        p.dst_device,
        offset([(0, 0), (p.dst_y, dst_pitch)], p.dst_x)?,
    )?;
    let copy = Copy {
        dst: 0,
        src: 0,
        width: p.width,
        height: p.height,
        depth: 1,
        dst_pitch,
        dst_slice: 0,
        src_pitch,
        src_slice: 0,
    };
    queue(&stream, dst, src, copy, wait)
}

fn copy_3d(on: Handle, p: *const Memcpy3D, wait: bool) -> Outcome {
    let stream = stream::find(on)?;
    // SAFETY: the program passes a structure or null.
    let p = unsafe { p.as_ref() }.ok_or(code::INVALID_VALUE)?;
    let (src_pitch, dst_pitch) = (p.src_pitch.max(p.width), p.dst_pitch.max(p.width));
    let src_slice = offset([(0, 0), (src_pitch, p.src_height.max(p.height))], 0)?;
    let dst_slice = offset([(0, 0), (dst_pitch, p.dst_height.max(p.height))], 0)?;
    let src_at = offset([(p.src_z, src_slice), (p.src_y, src_pitch)], p.src_x)?;
    let dst_at = offset([(p.dst_z, dst_slice), (p.dst_y, dst_pitch)], p.dst_x)?;
    let src = side(p.src_type, p.src_host as u64, p.src_device, src_at)?;
    let dst = side(p.dst_type, p.dst_host as u64, p.dst_device, dst_at)?;
    let copy = Copy {
        dst: 0,
        src: 0,
        width: p.width,
        height: p.height,
        depth: p.depth,
        dst_pitch,
        dst_slice,
        src_pitch,
        src_slice,
    };
    queue(&stream, dst, src, copy, wait)
}

const NULL: Handle = std::ptr::null_mut();

api! {
    fn cuMemcpy | cuMemcpy_ptds(dst: CUdeviceptr, src: CUdeviceptr, n: usize) {
        flat(NULL, classify(dst), classify(src), n, true)
    }
    fn cuMemcpyAsync | cuMemcpyAsync_ptsz(dst: CUdeviceptr, src: CUdeviceptr, n: usize, on: Handle) {
        flat(on, classify(dst), classify(src), n, false)
    }
    fn cuMemcpyPeer | cuMemcpyPeer_ptds(dst: CUdeviceptr, _to: Handle, src: CUdeviceptr, _from: Handle, n: usize) {
        flat(NULL, Side::Device(dst), Side::Device(src), n, true)
    }
    fn cuMemcpyPeerAsync | cuMemcpyPeerAsync_ptsz(dst: CUdeviceptr, _to: Handle, src: CUdeviceptr, _from: Handle, n: usize, on: Handle) {
        flat(on, Side::Device(dst), Side::Device(src), n, false)
    }
    fn cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds(dst: CUdeviceptr, src: *const c_void, n: usize) {
        flat(NULL, Side::Device(dst), Side::Host(src as u64), n, true)
    }
    fn cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz(dst: CUdeviceptr, src: *const c_void, n: usize, on: Handle) {
        flat(on, Side::Device(dst), Side::Host(src as u64), n, false)
    }
    fn cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds(dst: *mut c_void, src: CUdeviceptr, n: usize) {
        flat(NULL, Side::Host(dst as u64), Side::Device(src), n, true)
    }
    fn cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz(dst: *mut c_void, src: CUdeviceptr, n: usize, on: Handle) {
        flat(on, Side::Host(dst as u64), Side::Device(src), n, false)
    }
    fn cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds(dst: CUdeviceptr, src: CUdeviceptr, n: usize) {
        flat(NULL, Side::Device(dst), Side::Device(src), n, true)
    }
    fn cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz(dst: CUdeviceptr, src: CUdeviceptr, n: usize, on: Handle) {
        flat(on, Side::Device(dst), Side::Device(src), n, false)
    }
    fn cuMemcpy2D_v2 | cuMemcpy2D_v2_ptds(p: *const Memcpy2D) {
        copy_2d(NULL, p, true)
    }
    fn cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds(p: *const Memcpy2D) {
        copy_2d(NULL, p, true)
    }
    fn cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz(p: *const Memcpy2D, on: Handle) {
        copy_2d(on, p, false)
    }
    fn cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds(p: *const Memcpy3D) {
        copy_3d(NULL, p, true)
    }
    fn cuMemcpy3DAsync_v2 | cuMemcpy3DAsync_v2_ptsz(p: *const Memcpy3D, on: Handle) {
        copy_3d(on, p, false)
    }
    fn cuMemcpy3DPeer | cuMemcpy3DPeer_ptds(p: *const Memcpy3D) {
        copy_3d(NULL, p, true)
    }
    fn cuMemcpy3DPeerAsync | cuMemcpy3DPeerAsync_ptsz(p: *const Memcpy3D, on: Handle) {
        copy_3d(on, p, false)
    }
}
