//! Initialisation, devices, errors.

use super::{device, out};
use crate::abi::{CUdevice, code};
use crate::entry::api;
use crate::{settings, sim};
use std::ffi::{c_char, c_void};

/// Attributes by number; what is not listed is 0.
fn attribute(which: i32) -> i32 {
    match which {
        1..=3 => 1024,   // threads per block, block x, block y
        4 => 64,         // block z
        5 => i32::MAX,   // grid x
        6 | 7 => 65535,  // grid y, z
        8 => 48 << 10,   // shared memory per block
        9 => 64 << 10,   // constant memory
        10 => 32,        // warp
        11 => i32::MAX,  // pitch
        12 => 65536,     // registers
        13 => 1_980_000, // clock, kHz
        14 => 512,       // texture alignment
        15 => 1,         // overlap
        16 => 132,       // multiprocessors
        19 => 1,         // can map host memory
        31 => 1,         // concurrent kernels
        36 => 2_619_000, // memory clock
        37 => 5120,      // bus width
        38 => 50 << 20,  // L2
        39 => 2048,      // threads per multiprocessor
        40 => 3,         // copy engines
        41 => 1,         // unified addressing
        75 => 9,         // compute capability
        76 => 0,
        78 => 1,         // stream priorities
        81 => 228 << 10, // shared memory per multiprocessor
        82 => 65536,     // registers per multiprocessor
        83 => 1,         // managed memory
        89 => 1,         // concurrent managed access
        95 => 1,         // cooperative launch
        97 => 227 << 10, // opt-in shared memory per block
        99 => 1,         // host register
        102 => 1,        // virtual memory management
        103 => 1,        // file descriptor handles
        106 => 32,       // blocks per multiprocessor
        115 => 1,        // memory pools
        _ => 0,
    }
}

fn name_of(result: u32) -> Option<&'static std::ffi::CStr> {
    Some(match result {
        0 => c"CUDA_SUCCESS",
        1 => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        3 => c"CUDA_ERROR_NOT_INITIALIZED",
        4 => c"CUDA_ERROR_DEINITIALIZED",
        100 => c"CUDA_ERROR_NO_DEVICE",
        101 => c"CUDA_ERROR_INVALID_DEVICE",
        200 => c"CUDA_ERROR_INVALID_IMAGE",
        201 => c"CUDA_ERROR_INVALID_CONTEXT",
        214 => c"CUDA_ERROR_ECC_UNCORRECTABLE",
        400 => c"CUDA_ERROR_INVALID_HANDLE",
        500 => c"CUDA_ERROR_NOT_FOUND",
        600 => c"CUDA_ERROR_NOT_READY",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        704 => c"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
        705 => c"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
        709 => c"CUDA_ERROR_CONTEXT_IS_DESTROYED",
        712 => c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
        713 => c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
        719 => c"CUDA_ERROR_LAUNCH_FAILED",
        801 => c"CUDA_ERROR_NOT_SUPPORTED",
        999 => c"CUDA_ERROR_UNKNOWN",
        _ => return None,
    })
}

api! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        sim::init()
    }

    fn cuDriverGetVersion(version: *mut i32) {
        out(version, settings::get().driver_version)
    }

    fn cuDeviceGet(dev: *mut CUdevice, ordinal: i32) {
        out(dev, device(ordinal)? as i32)
    }

    fn cuDeviceGetCount(count: *mut i32) {
        sim::ready()?;
        out(count, settings::get().devices as i32)
    }

    fn cuDeviceGetName(name: *mut c_char, len: i32, dev: CUdevice) {
        device(dev)?;
        let text = b"Simulated GPU\0";
        if name.is_null() || len < 1 {
            return Err(code::INVALID_VALUE);
        }
        let n = text.len().min(len as usize);
        // SAFETY: the program says that `len` bytes are there.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, n);
            *name.add(n - 1) = 0;
        }
        Ok(())
    }

    fn cuDeviceGetUuid(uuid: *mut [u8; 16], dev: CUdevice) {
        let mut value = *b"simulated gpu  0";
        value[15] += device(dev)? as u8;
        out(uuid, value)
    }

    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], dev: CUdevice) {
        let mut value = *b"simulated gpu  0";
        value[15] += device(dev)? as u8;
        out(uuid, value)
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) {
        device(dev)?;
        out(bytes, settings::get().memory as usize)
    }

    fn cuDeviceGetAttribute(value: *mut i32, which: i32, dev: CUdevice) {
        let at = device(dev)? as i32;
        // CUDA 13.0 ends here.
        const LAST: i32 = 149;
        if !(1..=LAST).contains(&which) {
            return Err(code::INVALID_VALUE);
        }
        out(value, if which == 33 { at + 1 } else { attribute(which) })
    }

    fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, dev: CUdevice) {
        device(dev)?;
        out(major, attribute(75))?;
        out(minor, attribute(76))
    }

    fn cuDeviceGetPCIBusId(text: *mut c_char, len: i32, dev: CUdevice) {
        let id = format!("0000:{:02X}:00.0\0", device(dev)? + 1);
        if text.is_null() || (len as usize) < id.len() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: room was checked.
        unsafe { std::ptr::copy_nonoverlapping(id.as_ptr().cast(), text, id.len()) };
        Ok(())
    }

    fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, text: *const c_char) {
        sim::ready()?;
        if text.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: a C string by the ABI.
        let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().to_uppercase();
        let count = settings::get().devices;
        let found = (0..count).find(|d| text.ends_with(&format!("{:02X}:00.0", d + 1)));
        out(dev, found.ok_or(code::INVALID_DEVICE)? as i32)
    }

    fn cuDeviceGetP2PAttribute(value: *mut i32, which: i32, a: CUdevice, b: CUdevice) {
        let same = device(a)? == device(b)?;
        if same {
            return Err(code::INVALID_DEVICE);
        }
        out(value, i32::from(which != 4))
    }

    fn cuDeviceCanAccessPeer(can: *mut i32, a: CUdevice, b: CUdevice) {
        let same = device(a)? == device(b)?;
        out(can, i32::from(!same))
    }

    fn cuGetErrorName(result: u32, text: *mut *const c_char) {
        match name_of(result) {
            Some(name) => out(text, name.as_ptr()),
            None => {
                out(text, std::ptr::null())?;
                Err(code::INVALID_VALUE)
            }
        }
    }

    fn cuGetErrorString(result: u32, text: *mut *const c_char) {
        match name_of(result) {
            Some(name) => out(text, name.as_ptr()),
            None => {
                out(text, std::ptr::null())?;
                Err(code::INVALID_VALUE)
            }
        }
    }

    fn cuGetExportTable(table: *mut *const c_void, _id: *const c_void) {
        out(table, std::ptr::null())?;
        Err(code::NOT_FOUND)
    }
}
