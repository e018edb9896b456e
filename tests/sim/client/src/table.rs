//! The table of entry points: name, ABI version, per-thread variant, signature.
//!
//! Each row names one ABI of a function: `@ since .. before` are the versions at which
//! `cuGetProcAddress` answers with it, and the two strings are what its exported symbol adds to
//! the name: the ABI suffix, and the suffix of its per-thread-default-stream variant.

use crate::types::*;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name as `cuGetProcAddress` takes it.
    pub name: &'static str,
    /// First version with this ABI.
    pub since: u32,
    /// First version with another ABI.
    pub before: u32,
    /// `""`, `"_v2"`, `"_v3"`.
    pub suffix: &'static str,
    /// `""`, `"_ptds"`, `"_ptsz"`.
    pub per_thread: &'static str,
}

macro_rules! entry_points {
    ($($field:ident $name:literal @ $since:literal .. $before:tt $suffix:literal $pt:literal
        ($($arg:ty),* $(,)?);)*) => {
        /// Function pointers to the driver; `None` where it has no such function.
        #[allow(non_snake_case, missing_docs)]
        #[derive(Debug, Clone)]
        pub struct Raw {
            $(pub $field: Option<unsafe extern "C" fn($($arg),*) -> u32>,)*
        }

        /// All rows, in the order of the table.
        pub const ENTRIES: &[Entry] = &[
            $(Entry {
                name: $name,
                since: $since,
                before: entry_points!(@before $before),
                suffix: $suffix,
                per_thread: $pt,
            },)*
        ];

        impl Raw {
            /// Fills the table from a function that resolves one row (null: absent).
            ///
            /// # Safety
            /// What `look` returns must be null or the driver's function of that row.
            pub(crate) unsafe fn fill(mut look: impl FnMut(&Entry) -> *mut c_void) -> Raw {
                let mut rows = ENTRIES.iter();
                let mut next = || rows.next().map_or(std::ptr::null_mut(), |row| look(row));
                Raw {
                    $($field: {
                        // SAFETY: a pointer and an optional function pointer have one layout,
                        // null being `None`; the caller vouches for the signature.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                Option<unsafe extern "C" fn($($arg),*) -> u32>,
                            >(next())
                        }
                    },)*
                }
            }
        }
    };
    (@before _) => { u32::MAX };
    (@before $version:literal) => { $version };
}

type Out<T> = *mut T;
type In<T> = *const T;
type Params = *mut *mut c_void;

entry_points! {
    cuInit "cuInit" @ 2000 .. _ "" "" (c_uint);
    cuDriverGetVersion "cuDriverGetVersion" @ 2020 .. _ "" "" (Out<c_int>);
    cuGetErrorName "cuGetErrorName" @ 6000 .. _ "" "" (u32, Out<In<c_char>>);
    cuGetErrorString "cuGetErrorString" @ 6000 .. _ "" "" (u32, Out<In<c_char>>);
    cuGetExportTable "cuGetExportTable" @ 3000 .. _ "" "" (Out<In<c_void>>, In<[u8; 16]>);
    cuGetProcAddress_v1 "cuGetProcAddress" @ 11030 .. 12000 "" ""
        (In<c_char>, Out<*mut c_void>, c_int, u64);
    cuGetProcAddress "cuGetProcAddress" @ 12000 .. _ "_v2" ""
        (In<c_char>, Out<*mut c_void>, c_int, u64, Out<u32>);

    cuDeviceGet "cuDeviceGet" @ 2000 .. _ "" "" (Out<Device>, c_int);
    cuDeviceGetCount "cuDeviceGetCount" @ 2000 .. _ "" "" (Out<c_int>);
    cuDeviceGetName "cuDeviceGetName" @ 2000 .. _ "" "" (Out<c_char>, c_int, Device);
    cuDeviceGetUuid "cuDeviceGetUuid" @ 11040 .. _ "_v2" "" (Out<[u8; 16]>, Device);
    cuDeviceTotalMem "cuDeviceTotalMem" @ 3020 .. _ "_v2" "" (Out<usize>, Device);
    cuDeviceGetAttribute "cuDeviceGetAttribute" @ 2000 .. _ "" "" (Out<c_int>, u32, Device);
    cuDeviceCanAccessPeer "cuDeviceCanAccessPeer" @ 4000 .. _ "" "" (Out<c_int>, Device, Device);

    cuDevicePrimaryCtxRetain "cuDevicePrimaryCtxRetain" @ 7000 .. _ "" "" (Out<Context>, Device);
    cuDevicePrimaryCtxRelease "cuDevicePrimaryCtxRelease" @ 11000 .. _ "_v2" "" (Device);
    cuDevicePrimaryCtxReset "cuDevicePrimaryCtxReset" @ 11000 .. _ "_v2" "" (Device);
    cuDevicePrimaryCtxGetState "cuDevicePrimaryCtxGetState" @ 7000 .. _ "" ""
        (Device, Out<c_uint>, Out<c_int>);
    cuCtxCreate "cuCtxCreate" @ 3020 .. 11040 "_v2" "" (Out<Context>, c_uint, Device);
    cuCtxDestroy "cuCtxDestroy" @ 4000 .. _ "_v2" "" (Context);
    cuCtxPushCurrent "cuCtxPushCurrent" @ 4000 .. _ "_v2" "" (Context);
    cuCtxPopCurrent "cuCtxPopCurrent" @ 4000 .. _ "_v2" "" (Out<Context>);
    cuCtxSetCurrent "cuCtxSetCurrent" @ 4000 .. _ "" "" (Context);
    cuCtxGetCurrent "cuCtxGetCurrent" @ 4000 .. _ "" "" (Out<Context>);
    cuCtxGetDevice "cuCtxGetDevice" @ 2000 .. 13000 "" "" (Out<Device>);
    cuCtxGetApiVersion "cuCtxGetApiVersion" @ 3020 .. _ "" "" (Context, Out<c_uint>);
    cuCtxSynchronize "cuCtxSynchronize" @ 2000 .. 13000 "" "" ();
    cuCtxEnablePeerAccess "cuCtxEnablePeerAccess" @ 4000 .. _ "" "" (Context, c_uint);
    cuCtxDisablePeerAccess "cuCtxDisablePeerAccess" @ 4000 .. _ "" "" (Context);
    cuCtxRecordEvent "cuCtxRecordEvent" @ 12050 .. _ "" "" (Context, Event);
    cuCtxWaitEvent "cuCtxWaitEvent" @ 12050 .. _ "" "" (Context, Event);

    cuMemGetInfo "cuMemGetInfo" @ 3020 .. _ "_v2" "" (Out<usize>, Out<usize>);
    cuMemAlloc "cuMemAlloc" @ 3020 .. _ "_v2" "" (Out<DevicePtr>, usize);
    cuMemAllocPitch "cuMemAllocPitch" @ 3020 .. _ "_v2" ""
        (Out<DevicePtr>, Out<usize>, usize, usize, c_uint);
    cuMemAllocManaged "cuMemAllocManaged" @ 6000 .. _ "" "" (Out<DevicePtr>, usize, c_uint);
    cuMemFree "cuMemFree" @ 3020 .. _ "_v2" "" (DevicePtr);
    cuMemGetAddressRange "cuMemGetAddressRange" @ 3020 .. _ "_v2" ""
        (Out<DevicePtr>, Out<usize>, DevicePtr);
    cuPointerGetAttribute "cuPointerGetAttribute" @ 4000 .. _ "" ""
        (*mut c_void, u32, DevicePtr);
    cuPointerGetAttributes "cuPointerGetAttributes" @ 7000 .. _ "" ""
        (c_uint, In<u32>, Params, DevicePtr);
    cuPointerSetAttribute "cuPointerSetAttribute" @ 6000 .. _ "" ""
        (In<c_void>, u32, DevicePtr);

    cuMemAllocHost "cuMemAllocHost" @ 3020 .. _ "_v2" "" (Out<*mut c_void>, usize);
    cuMemHostAlloc "cuMemHostAlloc" @ 2020 .. _ "" "" (Out<*mut c_void>, usize, c_uint);
    cuMemFreeHost "cuMemFreeHost" @ 2000 .. _ "" "" (*mut c_void);
    cuMemHostRegister "cuMemHostRegister" @ 6050 .. _ "_v2" "" (*mut c_void, usize, c_uint);
    cuMemHostUnregister "cuMemHostUnregister" @ 4000 .. _ "" "" (*mut c_void);
    cuMemHostGetDevicePointer "cuMemHostGetDevicePointer" @ 3020 .. _ "_v2" ""
        (Out<DevicePtr>, *mut c_void, c_uint);
    cuMemHostGetFlags "cuMemHostGetFlags" @ 2030 .. _ "" "" (Out<c_uint>, *mut c_void);

    cuMemAllocAsync "cuMemAllocAsync" @ 11020 .. _ "" "_ptsz" (Out<DevicePtr>, usize, Stream);
    cuMemFreeAsync "cuMemFreeAsync" @ 11020 .. _ "" "_ptsz" (DevicePtr, Stream);
    cuMemAllocFromPoolAsync "cuMemAllocFromPoolAsync" @ 11020 .. _ "" "_ptsz"
        (Out<DevicePtr>, usize, Pool, Stream);
    cuDeviceGetDefaultMemPool "cuDeviceGetDefaultMemPool" @ 11020 .. _ "" "" (Out<Pool>, Device);
    cuDeviceGetMemPool "cuDeviceGetMemPool" @ 11020 .. _ "" "" (Out<Pool>, Device);
    cuDeviceSetMemPool "cuDeviceSetMemPool" @ 11020 .. _ "" "" (Device, Pool);
    cuMemPoolCreate "cuMemPoolCreate" @ 11020 .. _ "" "" (Out<Pool>, In<PoolProps>);
    cuMemPoolDestroy "cuMemPoolDestroy" @ 11020 .. _ "" "" (Pool);
    cuMemPoolTrimTo "cuMemPoolTrimTo" @ 11020 .. _ "" "" (Pool, usize);
    cuMemPoolGetAttribute "cuMemPoolGetAttribute" @ 11020 .. _ "" "" (Pool, u32, *mut c_void);
    cuMemPoolSetAttribute "cuMemPoolSetAttribute" @ 11020 .. _ "" "" (Pool, u32, *mut c_void);

    cuMemAddressReserve "cuMemAddressReserve" @ 10020 .. _ "" ""
        (Out<DevicePtr>, usize, usize, DevicePtr, u64);
    cuMemAddressFree "cuMemAddressFree" @ 10020 .. _ "" "" (DevicePtr, usize);
    cuMemCreate "cuMemCreate" @ 10020 .. _ "" ""
        (Out<MemHandle>, usize, In<AllocationProp>, u64);
    cuMemRelease "cuMemRelease" @ 10020 .. _ "" "" (MemHandle);
    cuMemMap "cuMemMap" @ 10020 .. _ "" "" (DevicePtr, usize, usize, MemHandle, u64);
    cuMemUnmap "cuMemUnmap" @ 10020 .. _ "" "" (DevicePtr, usize);
    cuMemSetAccess "cuMemSetAccess" @ 10020 .. _ "" "" (DevicePtr, usize, In<AccessDesc>, usize);
    cuMemGetAccess "cuMemGetAccess" @ 10020 .. _ "" "" (Out<u64>, In<MemLocation>, DevicePtr);
    cuMemGetAllocationGranularity "cuMemGetAllocationGranularity" @ 10020 .. _ "" ""
        (Out<usize>, In<AllocationProp>, u32);
    cuMemGetAllocationPropertiesFromHandle "cuMemGetAllocationPropertiesFromHandle"
        @ 10020 .. _ "" "" (Out<AllocationProp>, MemHandle);
    cuMemRetainAllocationHandle "cuMemRetainAllocationHandle" @ 11000 .. _ "" ""
        (Out<MemHandle>, *mut c_void);
    cuMemExportToShareableHandle "cuMemExportToShareableHandle" @ 10020 .. _ "" ""
        (*mut c_void, MemHandle, u32, u64);

    cuMemcpy "cuMemcpy" @ 4000 .. _ "" "_ptds" (DevicePtr, DevicePtr, usize);
    cuMemcpyAsync "cuMemcpyAsync" @ 4000 .. _ "" "_ptsz" (DevicePtr, DevicePtr, usize, Stream);
    cuMemcpyHtoD "cuMemcpyHtoD" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, In<c_void>, usize);
    cuMemcpyHtoDAsync "cuMemcpyHtoDAsync" @ 3020 .. _ "_v2" "_ptsz"
        (DevicePtr, In<c_void>, usize, Stream);
    cuMemcpyDtoH "cuMemcpyDtoH" @ 3020 .. _ "_v2" "_ptds" (*mut c_void, DevicePtr, usize);
    cuMemcpyDtoHAsync "cuMemcpyDtoHAsync" @ 3020 .. _ "_v2" "_ptsz"
        (*mut c_void, DevicePtr, usize, Stream);
    cuMemcpyDtoD "cuMemcpyDtoD" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, DevicePtr, usize);
    cuMemcpyDtoDAsync "cuMemcpyDtoDAsync" @ 3020 .. _ "_v2" "_ptsz"
        (DevicePtr, DevicePtr, usize, Stream);
    cuMemcpyPeer "cuMemcpyPeer" @ 4000 .. _ "" "_ptds"
        (DevicePtr, Context, DevicePtr, Context, usize);
    cuMemcpyPeerAsync "cuMemcpyPeerAsync" @ 4000 .. _ "" "_ptsz"
        (DevicePtr, Context, DevicePtr, Context, usize, Stream);
    cuMemcpy2D "cuMemcpy2D" @ 3020 .. _ "_v2" "_ptds" (In<Copy2d>);
    cuMemcpy2DUnaligned "cuMemcpy2DUnaligned" @ 3020 .. _ "_v2" "_ptds" (In<Copy2d>);
    cuMemcpy2DAsync "cuMemcpy2DAsync" @ 3020 .. _ "_v2" "_ptsz" (In<Copy2d>, Stream);
    cuMemcpy3D "cuMemcpy3D" @ 3020 .. _ "_v2" "_ptds" (In<Copy3d>);
    cuMemcpy3DAsync "cuMemcpy3DAsync" @ 3020 .. _ "_v2" "_ptsz" (In<Copy3d>, Stream);
    cuMemcpy3DPeer "cuMemcpy3DPeer" @ 4000 .. _ "" "_ptds" (In<Copy3d>);
    cuMemcpy3DPeerAsync "cuMemcpy3DPeerAsync" @ 4000 .. _ "" "_ptsz" (In<Copy3d>, Stream);

    cuMemsetD8 "cuMemsetD8" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, u8, usize);
    cuMemsetD16 "cuMemsetD16" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, u16, usize);
    cuMemsetD32 "cuMemsetD32" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, u32, usize);
    cuMemsetD2D8 "cuMemsetD2D8" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, usize, u8, usize, usize);
    cuMemsetD2D16 "cuMemsetD2D16" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, usize, u16, usize, usize);
    cuMemsetD2D32 "cuMemsetD2D32" @ 3020 .. _ "_v2" "_ptds" (DevicePtr, usize, u32, usize, usize);
    cuMemsetD8Async "cuMemsetD8Async" @ 3020 .. _ "" "_ptsz" (DevicePtr, u8, usize, Stream);
    cuMemsetD16Async "cuMemsetD16Async" @ 3020 .. _ "" "_ptsz" (DevicePtr, u16, usize, Stream);
    cuMemsetD32Async "cuMemsetD32Async" @ 3020 .. _ "" "_ptsz" (DevicePtr, u32, usize, Stream);
    cuMemsetD2D8Async "cuMemsetD2D8Async" @ 3020 .. _ "" "_ptsz"
        (DevicePtr, usize, u8, usize, usize, Stream);
    cuMemsetD2D16Async "cuMemsetD2D16Async" @ 3020 .. _ "" "_ptsz"
        (DevicePtr, usize, u16, usize, usize, Stream);
    cuMemsetD2D32Async "cuMemsetD2D32Async" @ 3020 .. _ "" "_ptsz"
        (DevicePtr, usize, u32, usize, usize, Stream);

    cuStreamCreate "cuStreamCreate" @ 2000 .. _ "" "" (Out<Stream>, c_uint);
    cuStreamCreateWithPriority "cuStreamCreateWithPriority" @ 5050 .. _ "" ""
        (Out<Stream>, c_uint, c_int);
    cuStreamDestroy "cuStreamDestroy" @ 4000 .. _ "_v2" "" (Stream);
    cuStreamSynchronize "cuStreamSynchronize" @ 2000 .. _ "" "_ptsz" (Stream);
    cuStreamQuery "cuStreamQuery" @ 2000 .. _ "" "_ptsz" (Stream);
    cuStreamWaitEvent "cuStreamWaitEvent" @ 3020 .. _ "" "_ptsz" (Stream, Event, c_uint);
    cuStreamGetFlags "cuStreamGetFlags" @ 5050 .. _ "" "_ptsz" (Stream, Out<c_uint>);
    cuStreamGetPriority "cuStreamGetPriority" @ 5050 .. _ "" "_ptsz" (Stream, Out<c_int>);
    cuStreamGetCtx "cuStreamGetCtx" @ 9020 .. 12050 "" "_ptsz" (Stream, Out<Context>);
    cuStreamGetId "cuStreamGetId" @ 12000 .. _ "" "_ptsz" (Stream, Out<u64>);
    cuStreamAddCallback "cuStreamAddCallback" @ 5000 .. _ "" "_ptsz"
        (Stream, StreamCallback, *mut c_void, c_uint);
    cuLaunchHostFunc "cuLaunchHostFunc" @ 10000 .. 13010 "" "_ptsz"
        (Stream, HostFn, *mut c_void);
    cuStreamIsCapturing "cuStreamIsCapturing" @ 10000 .. _ "" "_ptsz" (Stream, Out<u32>);
    cuStreamGetCaptureInfo "cuStreamGetCaptureInfo" @ 10010 .. 11030 "" "_ptsz"
        (Stream, Out<u32>, Out<u64>);
    cuStreamGetCaptureInfo_v2 "cuStreamGetCaptureInfo" @ 11030 .. 12030 "_v2" "_ptsz"
        (Stream, Out<u32>, Out<u64>, Out<Graph>, Out<In<usize>>, Out<usize>);
    cuStreamGetCaptureInfo_v3 "cuStreamGetCaptureInfo" @ 12030 .. _ "_v3" "_ptsz"
        (Stream, Out<u32>, Out<u64>, Out<Graph>, Out<In<usize>>, Out<In<c_void>>, Out<usize>);
    cuThreadExchangeStreamCaptureMode "cuThreadExchangeStreamCaptureMode" @ 10010 .. _ "" ""
        (*mut u32);
    cuStreamBeginCapture "cuStreamBeginCapture" @ 10010 .. _ "_v2" "_ptsz" (Stream, u32);
    cuStreamEndCapture "cuStreamEndCapture" @ 10000 .. _ "" "_ptsz" (Stream, Out<Graph>);
    cuGraphDestroy "cuGraphDestroy" @ 10000 .. _ "" "" (Graph);
    cuGraphInstantiateWithFlags "cuGraphInstantiateWithFlags" @ 11040 .. _ "" ""
        (Out<GraphExec>, Graph, u64);
    cuGraphLaunch "cuGraphLaunch" @ 10000 .. _ "" "_ptsz" (GraphExec, Stream);
    cuGraphExecDestroy "cuGraphExecDestroy" @ 10000 .. _ "" "" (GraphExec);

    cuEventCreate "cuEventCreate" @ 2000 .. _ "" "" (Out<Event>, c_uint);
    cuEventDestroy "cuEventDestroy" @ 4000 .. _ "_v2" "" (Event);
    cuEventRecord "cuEventRecord" @ 2000 .. _ "" "_ptsz" (Event, Stream);
    cuEventRecordWithFlags "cuEventRecordWithFlags" @ 11010 .. _ "" "_ptsz"
        (Event, Stream, c_uint);
    cuEventQuery "cuEventQuery" @ 2000 .. _ "" "" (Event);
    cuEventSynchronize "cuEventSynchronize" @ 2000 .. _ "" "" (Event);
    cuEventElapsedTime "cuEventElapsedTime" @ 2000 .. _ "" "" (Out<f32>, Event, Event);

    cuLaunchKernel "cuLaunchKernel" @ 4000 .. _ "" "_ptsz"
        (Function, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Stream, Params, Params);
    cuLaunchKernelEx "cuLaunchKernelEx" @ 11060 .. _ "" "_ptsz"
        (In<LaunchConfig>, Function, Params, Params);
    cuLaunchCooperativeKernel "cuLaunchCooperativeKernel" @ 9000 .. _ "" "_ptsz"
        (Function, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Stream, Params);

    cuModuleLoad "cuModuleLoad" @ 2000 .. _ "" "" (Out<Module>, In<c_char>);
    cuModuleLoadData "cuModuleLoadData" @ 2000 .. _ "" "" (Out<Module>, In<c_void>);
    cuModuleLoadDataEx "cuModuleLoadDataEx" @ 2010 .. _ "" ""
        (Out<Module>, In<c_void>, c_uint, *mut u32, Params);
    cuModuleUnload "cuModuleUnload" @ 2000 .. _ "" "" (Module);
    cuModuleGetFunction "cuModuleGetFunction" @ 2000 .. _ "" "" (Out<Function>, Module, In<c_char>);
    cuModuleGetGlobal "cuModuleGetGlobal" @ 3020 .. _ "_v2" ""
        (Out<DevicePtr>, Out<usize>, Module, In<c_char>);
    cuModuleGetLoadingMode "cuModuleGetLoadingMode" @ 11070 .. _ "" "" (Out<u32>);
    cuFuncGetAttribute "cuFuncGetAttribute" @ 2020 .. _ "" "" (Out<c_int>, u32, Function);
    cuFuncGetName "cuFuncGetName" @ 12030 .. _ "" "" (Out<In<c_char>>, Function);
    cuFuncGetModule "cuFuncGetModule" @ 11000 .. _ "" "" (Out<Module>, Function);
    cuFuncGetParamInfo "cuFuncGetParamInfo" @ 12040 .. _ "" ""
        (Function, usize, Out<usize>, Out<usize>);
    cuLibraryLoadData "cuLibraryLoadData" @ 12000 .. _ "" ""
        (Out<Library>, In<c_void>, *mut u32, Params, c_uint, *mut u32, Params, c_uint);
    cuLibraryUnload "cuLibraryUnload" @ 12000 .. _ "" "" (Library);
    cuLibraryGetKernel "cuLibraryGetKernel" @ 12000 .. _ "" "" (Out<Kernel>, Library, In<c_char>);
    cuLibraryGetModule "cuLibraryGetModule" @ 12000 .. _ "" "" (Out<Module>, Library);
    cuLibraryGetGlobal "cuLibraryGetGlobal" @ 12000 .. _ "" ""
        (Out<DevicePtr>, Out<usize>, Library, In<c_char>);
    cuLibraryGetKernelCount "cuLibraryGetKernelCount" @ 12040 .. _ "" "" (Out<c_uint>, Library);
    cuLibraryEnumerateKernels "cuLibraryEnumerateKernels" @ 12040 .. _ "" ""
        (Out<Kernel>, c_uint, Library);
    cuKernelGetFunction "cuKernelGetFunction" @ 12000 .. _ "" "" (Out<Function>, Kernel);
    cuKernelGetName "cuKernelGetName" @ 12030 .. _ "" "" (Out<In<c_char>>, Kernel);
    cuKernelGetParamInfo "cuKernelGetParamInfo" @ 12040 .. _ "" ""
        (Kernel, usize, Out<usize>, Out<usize>);
}

#[cfg(test)]
mod tests {
    use super::ENTRIES;

    #[test]
    fn rows_are_consistent() {
        let mut symbols = std::collections::BTreeSet::new();
        for row in ENTRIES {
            assert!(row.since < row.before, "{row:?}");
            assert!(symbols.insert(format!("{}{}", row.name, row.suffix)), "twice: {row:?}");
            assert!(matches!(row.per_thread, "" | "_ptds" | "_ptsz"), "{row:?}");
        }
    }
}
