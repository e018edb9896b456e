//! Structures of the driver's ABI that this library fills or reads.
//!
//! Plain integers stand where the ABI has enums: a program may pass any value, and reading an
//! unlisted one through a Rust enum would be undefined. Sizes are checked against `cudarc`.

use super::{CUdeviceptr, Handle};
use cudarc::driver::sys;
use std::ffi::c_void;

const LOCATION_DEVICE: u32 = 1;
const ALLOCATION_PINNED: u32 = 1;
const ACCESS_READ_WRITE: u32 = 3;

/// `CUmemLocation`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CUmemLocation {
    /// Kind of place.
    pub kind: u32,
    /// Ordinal there.
    pub id: i32,
}

/// `CUmemAllocationProp`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CUmemAllocationProp {
    /// Kind of memory.
    pub kind: u32,
    /// Kinds of handle it can be exported as.
    pub handle_types: u32,
    /// Where it is.
    pub location: CUmemLocation,
    /// Windows only.
    pub win32: *mut c_void,
    /// Compression, RDMA, usage.
    pub flags: [u8; 8],
}

impl CUmemAllocationProp {
    /// Ordinary memory of `device`.
    pub fn pinned_on(device: i32) -> Self {
        CUmemAllocationProp {
            kind: ALLOCATION_PINNED,
            handle_types: 0,
            location: CUmemLocation { kind: LOCATION_DEVICE, id: device },
            win32: std::ptr::null_mut(),
            flags: [0; 8],
        }
    }
}

/// `CUmemAccessDesc`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CUmemAccessDesc {
    /// Who.
    pub location: CUmemLocation,
    /// May do what.
    pub flags: u32,
}

impl CUmemAccessDesc {
    /// `device` may read and write.
    pub fn read_write(device: i32) -> Self {
        CUmemAccessDesc {
            location: CUmemLocation { kind: LOCATION_DEVICE, id: device },
            flags: ACCESS_READ_WRITE,
        }
    }
}

/// `CUDA_MEMCPY2D_v2`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the driver's own field names")]
pub struct Memcpy2D {
    pub src_x_in_bytes: usize,
    pub src_y: usize,
    pub src_memory_type: u32,
    pub src_host: *const c_void,
    pub src_device: CUdeviceptr,
    pub src_array: Handle,
    pub src_pitch: usize,
    pub dst_x_in_bytes: usize,
    pub dst_y: usize,
    pub dst_memory_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: CUdeviceptr,
    pub dst_array: Handle,
    pub dst_pitch: usize,
    pub width_in_bytes: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D_v2`, and `CUDA_MEMCPY3D_PEER`, whose contexts stand in the reserved fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the driver's own field names")]
pub struct Memcpy3D {
    pub src_x_in_bytes: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_memory_type: u32,
    pub src_host: *const c_void,
    pub src_device: CUdeviceptr,
    pub src_array: Handle,
    pub src_context: Handle,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x_in_bytes: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_memory_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: CUdeviceptr,
    pub dst_array: Handle,
    pub dst_context: Handle,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width_in_bytes: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUlaunchConfig`; its attributes are opaque here.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the driver's own field names")]
pub struct LaunchConfig {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_mem_bytes: u32,
    pub stream: Handle,
    pub attrs: *mut LaunchAttribute,
    pub num_attrs: u32,
}

/// `CUlaunchAttribute`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchAttribute {
    /// Which one.
    pub id: u32,
    /// Padding of the ABI.
    pub pad: u32,
    /// Its 64 bytes.
    pub value: [u64; 8],
}

const _: () = {
    assert!(size_of::<CUmemLocation>() == size_of::<sys::CUmemLocation>());
    assert!(size_of::<CUmemAllocationProp>() == size_of::<sys::CUmemAllocationProp>());
    assert!(size_of::<CUmemAccessDesc>() == size_of::<sys::CUmemAccessDesc>());
    assert!(size_of::<Memcpy2D>() == size_of::<sys::CUDA_MEMCPY2D>());
    assert!(size_of::<Memcpy3D>() == size_of::<sys::CUDA_MEMCPY3D>());
    assert!(size_of::<Memcpy3D>() == size_of::<sys::CUDA_MEMCPY3D_PEER>());
    assert!(size_of::<LaunchConfig>() == size_of::<sys::CUlaunchConfig>());
    assert!(size_of::<LaunchAttribute>() == size_of::<sys::CUlaunchAttribute>());
};
