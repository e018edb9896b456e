//! Handles, flags and structures of the driver API, laid out as its documentation gives them.

use std::ffi::{c_int, c_void};

/// A device address.
pub type DevicePtr = u64;
/// A device ordinal's handle.
pub type Device = c_int;

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        ///
        /// A plain value: whether it still names something is the driver's to say, so that tests
        /// can pass stale ones.
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub usize);

        impl $name {
            /// The null handle.
            pub const NULL: $name = $name(0);

            /// Whether this is the null handle.
            pub fn is_null(self) -> bool {
                self.0 == 0
            }
        }
    )*};
}

handles! {
    /// A context.
    Context,
    /// A stream; null is the default stream.
    Stream,
    /// An event.
    Event,
    /// A module.
    Module,
    /// A function of a module; a [`Kernel`] may stand in its place in a launch.
    Function,
    /// A library.
    Library,
    /// A kernel of a library.
    Kernel,
    /// A stream-ordered memory pool.
    Pool,
    /// A graph.
    Graph,
    /// An instantiated graph.
    GraphExec,
}

impl Stream {
    /// The legacy default stream by name.
    pub const LEGACY: Stream = Stream(1);
    /// The calling thread's default stream by name.
    pub const PER_THREAD: Stream = Stream(2);
}

impl From<Kernel> for Function {
    /// A launch takes either.
    fn from(kernel: Kernel) -> Function {
        Function(kernel.0)
    }
}

/// Physical memory (`CUmemGenericAllocationHandle`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemHandle(pub u64);

/// The numbers of the API that callers name.
#[allow(missing_docs)]
pub mod flag {
    pub const STREAM_DEFAULT: u32 = 0;
    pub const STREAM_NON_BLOCKING: u32 = 1;

    pub const EVENT_DEFAULT: u32 = 0;
    pub const EVENT_BLOCKING_SYNC: u32 = 1;
    pub const EVENT_DISABLE_TIMING: u32 = 2;

    pub const HOST_PORTABLE: u32 = 1;
    pub const HOST_MAPPED: u32 = 2;
    pub const HOST_WRITE_COMBINED: u32 = 4;

    pub const ATTACH_GLOBAL: u32 = 1;

    pub const MEMORY_HOST: u32 = 1;
    pub const MEMORY_DEVICE: u32 = 2;
    pub const MEMORY_ARRAY: u32 = 3;
    pub const MEMORY_UNIFIED: u32 = 4;

    pub const LOCATION_DEVICE: u32 = 1;
    pub const LOCATION_HOST: u32 = 2;
    pub const LOCATION_HOST_NUMA: u32 = 3;
    pub const ALLOCATION_PINNED: u32 = 1;
    pub const ACCESS_NONE: u32 = 0;
    pub const ACCESS_READ: u32 = 1;
    pub const ACCESS_READ_WRITE: u32 = 3;
    pub const GRANULARITY_MINIMUM: u32 = 0;
    pub const GRANULARITY_RECOMMENDED: u32 = 1;
    pub const HANDLE_NONE: u32 = 0;
    pub const HANDLE_POSIX_FD: u32 = 1;

    pub const POINTER_CONTEXT: u32 = 1;
    pub const POINTER_MEMORY_TYPE: u32 = 2;
    pub const POINTER_DEVICE_POINTER: u32 = 3;
    pub const POINTER_HOST_POINTER: u32 = 4;
    pub const POINTER_SYNC_MEMOPS: u32 = 6;
    pub const POINTER_BUFFER_ID: u32 = 7;
    pub const POINTER_IS_MANAGED: u32 = 8;
    pub const POINTER_DEVICE_ORDINAL: u32 = 9;
    pub const POINTER_IS_LEGACY_IPC_CAPABLE: u32 = 10;
    pub const POINTER_RANGE_START: u32 = 11;
    pub const POINTER_RANGE_SIZE: u32 = 12;
    pub const POINTER_MAPPED: u32 = 13;
    pub const POINTER_MEMPOOL: u32 = 17;

    pub const DEVICE_MULTIPROCESSORS: u32 = 16;
    pub const DEVICE_UNIFIED_ADDRESSING: u32 = 41;
    pub const DEVICE_MAJOR: u32 = 75;
    pub const DEVICE_MINOR: u32 = 76;
    pub const DEVICE_MANAGED_MEMORY: u32 = 83;
    pub const DEVICE_COOPERATIVE_LAUNCH: u32 = 95;
    pub const DEVICE_VMM: u32 = 102;
    pub const DEVICE_MEMORY_POOLS: u32 = 115;

    pub const POOL_RELEASE_THRESHOLD: u32 = 4;
    pub const POOL_RESERVED_CURRENT: u32 = 5;
    pub const POOL_RESERVED_HIGH: u32 = 6;
    pub const POOL_USED_CURRENT: u32 = 7;
    pub const POOL_USED_HIGH: u32 = 8;

    pub const CAPTURE_GLOBAL: u32 = 0;
    pub const CAPTURE_THREAD_LOCAL: u32 = 1;
    pub const CAPTURE_RELAXED: u32 = 2;
    pub const CAPTURE_NONE: u32 = 0;
    pub const CAPTURE_ACTIVE: u32 = 1;
    pub const CAPTURE_STATUS_INVALIDATED: u32 = 2;

    pub const PROC_DEFAULT: u64 = 0;
    pub const PROC_LEGACY: u64 = 1;
    pub const PROC_PER_THREAD: u64 = 2;
    pub const PROC_FOUND: u32 = 0;
    pub const PROC_NOT_FOUND: u32 = 1;
    pub const PROC_TOO_NEW: u32 = 2;

    pub const LAUNCH_PARAM_END: usize = 0;
    pub const LAUNCH_PARAM_BUFFER_POINTER: usize = 1;
    pub const LAUNCH_PARAM_BUFFER_SIZE: usize = 2;
}

/// Where memory lives (`CUmemLocation`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemLocation {
    /// One of the `LOCATION_` numbers.
    pub kind: u32,
    /// Device ordinal or NUMA node.
    pub id: c_int,
}

impl MemLocation {
    /// The memory of a device.
    pub fn device(device: Device) -> Self {
        Self { kind: flag::LOCATION_DEVICE, id: device }
    }
}

/// What kind of physical memory to create (`CUmemAllocationProp`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AllocationProp {
    /// `ALLOCATION_PINNED`.
    pub kind: u32,
    /// How the handle may be shared.
    pub handle_types: u32,
    /// Where.
    pub location: MemLocation,
    /// Windows only.
    pub win32: *mut c_void,
    /// L2 compression.
    pub compression: u8,
    /// RDMA.
    pub rdma: u8,
    /// Usage bits.
    pub usage: u16,
    /// Zero.
    pub reserved: [u8; 4],
}

impl AllocationProp {
    /// Ordinary device memory.
    pub fn device(device: Device) -> Self {
        Self {
            kind: flag::ALLOCATION_PINNED,
            handle_types: flag::HANDLE_NONE,
            location: MemLocation::device(device),
            win32: std::ptr::null_mut(),
            compression: 0,
            rdma: 0,
            usage: 0,
            reserved: [0; 4],
        }
    }
}

/// Who may access a mapping (`CUmemAccessDesc`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessDesc {
    /// Who.
    pub location: MemLocation,
    /// One of the `ACCESS_` numbers.
    pub flags: u32,
}

impl AccessDesc {
    /// Reads and writes by a device.
    pub fn read_write(device: Device) -> Self {
        Self { location: MemLocation::device(device), flags: flag::ACCESS_READ_WRITE }
    }
}

/// What kind of pool to create (`CUmemPoolProps`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PoolProps {
    /// `ALLOCATION_PINNED`.
    pub kind: u32,
    /// How its allocations may be shared.
    pub handle_types: u32,
    /// Where.
    pub location: MemLocation,
    /// Windows only.
    pub win32: *mut c_void,
    /// Zero for the driver's default.
    pub max_size: usize,
    /// Usage bits.
    pub usage: u16,
    /// Zero.
    pub reserved: [u8; 54],
}

impl PoolProps {
    /// An ordinary pool of a device.
    pub fn device(device: Device) -> Self {
        Self {
            kind: flag::ALLOCATION_PINNED,
            handle_types: flag::HANDLE_NONE,
            location: MemLocation::device(device),
            win32: std::ptr::null_mut(),
            max_size: 0,
            usage: 0,
            reserved: [0; 54],
        }
    }
}

/// A two-dimensional copy (`CUDA_MEMCPY2D`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Copy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: usize,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// A three-dimensional copy (`CUDA_MEMCPY3D`, and `CUDA_MEMCPY3D_PEER` with the contexts set).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Copy3d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: usize,
    /// Only read by the peer form; null otherwise.
    pub src_context: Context,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    /// Only read by the peer form; null otherwise.
    pub dst_context: Context,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

macro_rules! zeroed_default {
    ($($name:ident,)*) => {$(
        impl Default for $name {
            fn default() -> Self {
                // SAFETY: integers and raw pointers only; all zero bits are a value of each.
                unsafe { std::mem::zeroed() }
            }
        }
    )*};
}
zeroed_default! { Copy2d, Copy3d, LaunchConfig, }

/// One side of a pitched copy, for [`Copy2d::new`].
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// Host memory: address and pitch.
    Host(*mut c_void, usize),
    /// Device memory: address and pitch.
    Device(DevicePtr, usize),
}

impl Copy2d {
    /// A copy of `width` bytes times `height` rows from the start of `src` to that of `dst`.
    pub fn new(dst: Side, src: Side, width: usize, height: usize) -> Self {
        let mut copy = Self { width, height, ..Self::default() };
        match src {
            Side::Host(at, pitch) => {
                (copy.src_type, copy.src_host, copy.src_pitch) = (flag::MEMORY_HOST, at, pitch);
            }
            Side::Device(at, pitch) => {
                (copy.src_type, copy.src_device, copy.src_pitch) = (flag::MEMORY_DEVICE, at, pitch);
            }
        }
        match dst {
            Side::Host(at, pitch) => {
                (copy.dst_type, copy.dst_host, copy.dst_pitch) = (flag::MEMORY_HOST, at, pitch);
            }
            Side::Device(at, pitch) => {
                (copy.dst_type, copy.dst_device, copy.dst_pitch) = (flag::MEMORY_DEVICE, at, pitch);
            }
        }
        copy
    }
}

/// A launch's shape and place (`CUlaunchConfig`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct LaunchConfig {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub stream: Stream,
    pub attributes: *mut LaunchAttribute,
    pub attribute_count: u32,
}

/// One attribute of a launch (`CUlaunchAttribute`).
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct LaunchAttribute {
    /// Which.
    pub id: u32,
    /// Zero.
    pub pad: [u8; 4],
    /// The value, by its bytes.
    pub value: [u8; 64],
}

/// A host function of a stream (`CUhostFn`).
pub type HostFn = unsafe extern "C" fn(*mut c_void);
/// A stream callback (`CUstreamCallback`).
pub type StreamCallback = unsafe extern "C" fn(Stream, u32, *mut c_void);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn layouts_are_the_documented_ones() {
        assert_eq!(size_of::<MemLocation>(), 8);
        assert_eq!(size_of::<AllocationProp>(), 32);
        assert_eq!(offset_of!(AllocationProp, win32), 16);
        assert_eq!(offset_of!(AllocationProp, usage), 26);
        assert_eq!(size_of::<AccessDesc>(), 12);
        assert_eq!(size_of::<PoolProps>(), 88);
        assert_eq!(offset_of!(PoolProps, max_size), 24);
        assert_eq!(size_of::<Copy2d>(), 128);
        assert_eq!(offset_of!(Copy2d, dst_type), 72);
        assert_eq!(offset_of!(Copy2d, width), 112);
        assert_eq!(size_of::<Copy3d>(), 200);
        assert_eq!(offset_of!(Copy3d, src_context), 64);
        assert_eq!(offset_of!(Copy3d, dst_type), 120);
        assert_eq!(offset_of!(Copy3d, width), 176);
        assert_eq!(size_of::<LaunchConfig>(), 56);
        assert_eq!(offset_of!(LaunchConfig, stream), 32);
        assert_eq!(offset_of!(LaunchConfig, attribute_count), 48);
        assert_eq!(size_of::<LaunchAttribute>(), 72);
    }
}
