//! The driver's status codes this library reads or returns.
#![forbid(unsafe_code)]

use super::CUresult;
use cudarc::driver::sys::CUresult as Sys;

/// The call did what it says.
pub const SUCCESS: CUresult = Sys::CUDA_SUCCESS as CUresult;
/// An argument is not acceptable.
pub const INVALID_VALUE: CUresult = Sys::CUDA_ERROR_INVALID_VALUE as CUresult;
/// Not enough memory.
pub const OUT_OF_MEMORY: CUresult = Sys::CUDA_ERROR_OUT_OF_MEMORY as CUresult;
/// `cuInit` has not been called, or not in this process.
pub const NOT_INITIALIZED: CUresult = Sys::CUDA_ERROR_NOT_INITIALIZED as CUresult;
/// The driver is shutting down.
pub const DEINITIALIZED: CUresult = Sys::CUDA_ERROR_DEINITIALIZED as CUresult;
/// No device.
pub const NO_DEVICE: CUresult = Sys::CUDA_ERROR_NO_DEVICE as CUresult;
/// Not a device ordinal.
pub const INVALID_DEVICE: CUresult = Sys::CUDA_ERROR_INVALID_DEVICE as CUresult;
/// Not a context, or none is current.
pub const INVALID_CONTEXT: CUresult = Sys::CUDA_ERROR_INVALID_CONTEXT as CUresult;
/// Bytes of device memory are lost.
pub const ECC_UNCORRECTABLE: CUresult = Sys::CUDA_ERROR_ECC_UNCORRECTABLE as CUresult;
/// Peer access is on already.
pub const PEER_ACCESS_ALREADY_ENABLED: CUresult =
    Sys::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED as CUresult;
/// Not a handle.
pub const INVALID_HANDLE: CUresult = Sys::CUDA_ERROR_INVALID_HANDLE as CUresult;
/// No such name.
pub const NOT_FOUND: CUresult = Sys::CUDA_ERROR_NOT_FOUND as CUresult;
/// Asynchronous work has not finished.
pub const NOT_READY: CUresult = Sys::CUDA_ERROR_NOT_READY as CUresult;
/// The device touched an address it may not.
pub const ILLEGAL_ADDRESS: CUresult = Sys::CUDA_ERROR_ILLEGAL_ADDRESS as CUresult;
/// Not allowed where it was called, or by the system.
pub const NOT_PERMITTED: CUresult = Sys::CUDA_ERROR_NOT_PERMITTED as CUresult;
/// Not possible here.
pub const NOT_SUPPORTED: CUresult = Sys::CUDA_ERROR_NOT_SUPPORTED as CUresult;
/// The first of the codes that say a capture is in the way.
pub const CAPTURE_FIRST: CUresult = Sys::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED as CUresult;
/// The last of them.
pub const CAPTURE_LAST: CUresult = Sys::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD as CUresult;
/// Anything else.
pub const UNKNOWN: CUresult = Sys::CUDA_ERROR_UNKNOWN as CUresult;
