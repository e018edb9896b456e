//! The real driver: its functions, codes and types. The only module that calls it.
//!
//! Owns: where the real `libcuda.so.1` is (`locate`), the table of typed pointers the rest of the
//! library calls (`api`), and the plain names and types of its ABI. Never: what a call means for
//! residency. Everything here is filled once, before the first hook runs, and read without a lock
//! afterwards. `cudarc` supplies values and checks layouts; its loader is never used, because it
//! would find this library instead of the driver.

mod api;
pub mod code;
mod image;
pub mod locate;
pub mod types;

pub use api::{Api, api, install, version};

/// A driver status, as a plain number: a newer driver may return codes no enum knows.
pub type CUresult = u32;
/// A device address.
pub type CUdeviceptr = u64;
/// A device ordinal.
pub type CUdevice = i32;
/// Any opaque handle of the driver (context, stream, event, module, function).
pub type Handle = *mut std::ffi::c_void;
