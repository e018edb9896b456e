//! Typed pointers to the real driver's functions, one line a function.
//!
//! Owns: the signatures. Names are the exported ones, so each stands for exactly one ABI version.
//! A name the real driver lacks answers `CUDA_ERROR_NOT_FOUND`.
#![allow(non_snake_case, reason = "fields carry the driver's own names")]
#![allow(missing_docs, reason = "the fields are the driver's functions, documented there")]

use super::types::{
    CUmemAccessDesc, CUmemAllocationProp, CUmemLocation, LaunchConfig, Memcpy2D, Memcpy3D,
};
use super::{CUdevice, CUdeviceptr, CUresult, Handle, code};
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

macro_rules! functions {
    ($($name:ident($($arg:ty),*);)*) => {
        /// The real driver's functions that this library calls.
        #[derive(Debug)]
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> CUresult,)*
            version: i32,
        }

        impl Api {
            /// Looks every name up with `lookup`, which answers null for what is missing.
            ///
            /// # Safety
            /// A non-null answer must be the driver function of that exported name.
            pub unsafe fn load(mut lookup: impl FnMut(&CStr) -> *mut c_void) -> Api {
                let mut api = Api {
                    $($name: {
                        const NAME: &CStr = match CStr::from_bytes_with_nul(
                            concat!(stringify!($name), "\0").as_bytes(),
                        ) {
                            Ok(name) => name,
                            Err(_) => c"",
                        };
                        let found = lookup(NAME);
                        let found = if found.is_null() { absent as *mut c_void } else { found };
                        // SAFETY: the caller vouches for the name; `absent` ignores arguments,
                        // which the C calling convention allows.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($arg),*) -> CUresult,
                            >(found)
                        }
                    },)*
                    version: 0,
                };
                // Much depends on it, so the driver is asked once more where it does not say.
                for _ in 0..2 {
                    let mut version = 0;
                    // SAFETY: a live local; this call needs no initialised driver.
                    if unsafe { (api.cuDriverGetVersion)(&mut version) } == code::SUCCESS {
                        api.version = version;
                        break;
                    }
                }
                api
            }
        }
    };
}

extern "C" fn absent() -> CUresult {
    code::NOT_FOUND
}

functions! {
    cuInit(u32);
    cuDriverGetVersion(*mut i32);
    cuDeviceGetCount(*mut i32);
    cuDeviceGet(*mut CUdevice, i32);
    cuDeviceGetName(*mut c_char, i32, CUdevice);
    cuDeviceGetAttribute(*mut i32, i32, CUdevice);
    cuDeviceTotalMem_v2(*mut usize, CUdevice);
    cuDeviceGetDefaultMemPool(*mut Handle, CUdevice);
    cuDeviceGetMemPool(*mut Handle, CUdevice);
    cuDevicePrimaryCtxRetain(*mut Handle, CUdevice);
    cuDevicePrimaryCtxRelease(CUdevice);
    cuDevicePrimaryCtxRelease_v2(CUdevice);
    cuDevicePrimaryCtxReset(CUdevice);
    cuDevicePrimaryCtxReset_v2(CUdevice);
    cuDevicePrimaryCtxGetState(CUdevice, *mut u32, *mut i32);
    cuCtxCreate(*mut Handle, u32, CUdevice);
    cuCtxCreate_v2(*mut Handle, u32, CUdevice);
    cuCtxCreate_v3(*mut Handle, *mut c_void, i32, u32, CUdevice);
    cuCtxCreate_v4(*mut Handle, *mut c_void, u32, CUdevice);
    cuCtxDestroy(Handle);
    cuCtxDestroy_v2(Handle);
    cuCtxAttach(*mut Handle, u32);
    cuCtxDetach(Handle);
    cuCtxGetCurrent(*mut Handle);
    cuCtxSetCurrent(Handle);
    cuCtxPushCurrent_v2(Handle);
    cuCtxPopCurrent_v2(*mut Handle);
    cuCtxGetDevice(*mut CUdevice);
    cuCtxSynchronize();
    cuCtxEnablePeerAccess(Handle, u32);
    cuCtxDisablePeerAccess(Handle);
    cuCtxRecordEvent(Handle, Handle);
    cuGetProcAddress(*const c_char, *mut *mut c_void, i32, u64);
    cuGetProcAddress_v2(*const c_char, *mut *mut c_void, i32, u64, *mut u32);
    cuGetErrorName(u32, *mut *const c_char);
    cuMemAlloc_v2(*mut CUdeviceptr, usize);
    cuMemAllocPitch_v2(*mut CUdeviceptr, *mut usize, usize, usize, u32);
    cuMemFree_v2(CUdeviceptr);
    cuMemAllocAsync(*mut CUdeviceptr, usize, Handle);
    cuMemAllocAsync_ptsz(*mut CUdeviceptr, usize, Handle);
    cuMemAllocFromPoolAsync(*mut CUdeviceptr, usize, Handle, Handle);
    cuMemAllocFromPoolAsync_ptsz(*mut CUdeviceptr, usize, Handle, Handle);
    cuMemFreeAsync(CUdeviceptr, Handle);
    cuMemFreeAsync_ptsz(CUdeviceptr, Handle);
    cuMemGetAccess(*mut u64, *const CUmemLocation, CUdeviceptr);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemGetAddressRange_v2(*mut CUdeviceptr, *mut usize, CUdeviceptr);
    cuPointerGetAttribute(*mut c_void, i32, CUdeviceptr);
    cuPointerGetAttributes(u32, *mut i32, *mut *mut c_void, CUdeviceptr);
    cuPointerSetAttribute(*const c_void, i32, CUdeviceptr);
    cuMemAllocHost_v2(*mut *mut c_void, usize);
    cuMemHostAlloc(*mut *mut c_void, usize, u32);
    cuMemFreeHost(*mut c_void);
    cuMemHostRegister(*mut c_void, usize, u32);
    cuMemHostRegister_v2(*mut c_void, usize, u32);
    cuMemHostUnregister(*mut c_void);
    cuMemGetAllocationGranularity(*mut usize, *const CUmemAllocationProp, u32);
    cuMemAddressReserve(*mut CUdeviceptr, usize, usize, CUdeviceptr, u64);
    cuMemAddressFree(CUdeviceptr, usize);
    cuMemCreate(*mut u64, usize, *const CUmemAllocationProp, u64);
    cuMemRelease(u64);
    cuMemMap(CUdeviceptr, usize, usize, u64, u64);
    cuMemUnmap(CUdeviceptr, usize);
    cuMemSetAccess(CUdeviceptr, usize, *const CUmemAccessDesc, usize);
    cuMemcpy(CUdeviceptr, CUdeviceptr, usize);
    cuMemcpy_ptds(CUdeviceptr, CUdeviceptr, usize);
    cuMemcpyAsync(CUdeviceptr, CUdeviceptr, usize, Handle);
    cuMemcpyAsync_ptsz(CUdeviceptr, CUdeviceptr, usize, Handle);
    cuMemcpyPeer(CUdeviceptr, Handle, CUdeviceptr, Handle, usize);
    cuMemcpyPeer_ptds(CUdeviceptr, Handle, CUdeviceptr, Handle, usize);
    cuMemcpyPeerAsync(CUdeviceptr, Handle, CUdeviceptr, Handle, usize, Handle);
    cuMemcpyPeerAsync_ptsz(CUdeviceptr, Handle, CUdeviceptr, Handle, usize, Handle);
    cuMemcpyHtoD_v2(CUdeviceptr, *const c_void, usize);
    cuMemcpyHtoD_v2_ptds(CUdeviceptr, *const c_void, usize);
    cuMemcpyHtoDAsync_v2(CUdeviceptr, *const c_void, usize, Handle);
    cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr, *const c_void, usize, Handle);
    cuMemcpyDtoH_v2(*mut c_void, CUdeviceptr, usize);
    cuMemcpyDtoH_v2_ptds(*mut c_void, CUdeviceptr, usize);
    cuMemcpyDtoHAsync_v2(*mut c_void, CUdeviceptr, usize, Handle);
    cuMemcpyDtoHAsync_v2_ptsz(*mut c_void, CUdeviceptr, usize, Handle);
    cuMemcpyDtoD_v2(CUdeviceptr, CUdeviceptr, usize);
    cuMemcpyDtoD_v2_ptds(CUdeviceptr, CUdeviceptr, usize);
    cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, usize, Handle);
    cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr, CUdeviceptr, usize, Handle);
    cuMemcpy2D_v2(*const Memcpy2D);
    cuMemcpy2D_v2_ptds(*const Memcpy2D);
    cuMemcpy2DUnaligned_v2(*const Memcpy2D);
    cuMemcpy2DUnaligned_v2_ptds(*const Memcpy2D);
    cuMemcpy2DAsync_v2(*const Memcpy2D, Handle);
    cuMemcpy2DAsync_v2_ptsz(*const Memcpy2D, Handle);
    cuMemcpy3D_v2(*const Memcpy3D);
    cuMemcpy3D_v2_ptds(*const Memcpy3D);
    cuMemcpy3DAsync_v2(*const Memcpy3D, Handle);
    cuMemcpy3DAsync_v2_ptsz(*const Memcpy3D, Handle);
    cuMemcpy3DPeer(*const Memcpy3D);
    cuMemcpy3DPeer_ptds(*const Memcpy3D);
    cuMemcpy3DPeerAsync(*const Memcpy3D, Handle);
    cuMemcpy3DPeerAsync_ptsz(*const Memcpy3D, Handle);
    cuMemsetD8_v2(CUdeviceptr, u8, usize);
    cuMemsetD8_v2_ptds(CUdeviceptr, u8, usize);
    cuMemsetD8Async(CUdeviceptr, u8, usize, Handle);
    cuMemsetD8Async_ptsz(CUdeviceptr, u8, usize, Handle);
    cuMemsetD2D8_v2(CUdeviceptr, usize, u8, usize, usize);
    cuMemsetD2D8_v2_ptds(CUdeviceptr, usize, u8, usize, usize);
    cuMemsetD2D8Async(CUdeviceptr, usize, u8, usize, usize, Handle);
    cuMemsetD2D8Async_ptsz(CUdeviceptr, usize, u8, usize, usize, Handle);
    cuMemsetD16_v2(CUdeviceptr, u16, usize);
    cuMemsetD16_v2_ptds(CUdeviceptr, u16, usize);
    cuMemsetD16Async(CUdeviceptr, u16, usize, Handle);
    cuMemsetD16Async_ptsz(CUdeviceptr, u16, usize, Handle);
    cuMemsetD2D16_v2(CUdeviceptr, usize, u16, usize, usize);
    cuMemsetD2D16_v2_ptds(CUdeviceptr, usize, u16, usize, usize);
    cuMemsetD2D16Async(CUdeviceptr, usize, u16, usize, usize, Handle);
    cuMemsetD2D16Async_ptsz(CUdeviceptr, usize, u16, usize, usize, Handle);
    cuMemsetD32_v2(CUdeviceptr, u32, usize);
    cuMemsetD32_v2_ptds(CUdeviceptr, u32, usize);
    cuMemsetD32Async(CUdeviceptr, u32, usize, Handle);
    cuMemsetD32Async_ptsz(CUdeviceptr, u32, usize, Handle);
    cuMemsetD2D32_v2(CUdeviceptr, usize, u32, usize, usize);
    cuMemsetD2D32_v2_ptds(CUdeviceptr, usize, u32, usize, usize);
    cuMemsetD2D32Async(CUdeviceptr, usize, u32, usize, usize, Handle);
    cuMemsetD2D32Async_ptsz(CUdeviceptr, usize, u32, usize, usize, Handle);
    cuLaunchKernel(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void);
    cuLaunchKernel_ptsz(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void);
    cuLaunchCooperativeKernel(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void);
    cuLaunchCooperativeKernel_ptsz(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void);
    cuLaunchKernelEx(*const LaunchConfig, Handle, *mut *mut c_void, *mut *mut c_void);
    cuLaunchKernelEx_ptsz(*const LaunchConfig, Handle, *mut *mut c_void, *mut *mut c_void);
    cuFuncGetParamInfo(Handle, usize, *mut usize, *mut usize);
    cuKernelGetParamInfo(Handle, usize, *mut usize, *mut usize);
    cuFuncGetName(*mut *const c_char, Handle);
    cuFuncGetModule(*mut Handle, Handle);
    cuKernelGetLibrary(*mut Handle, Handle);
    cuModuleLoadData(*mut Handle, *const c_void);
    cuFuncLoad(Handle);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuModuleUnload(Handle);
    cuModuleGetGlobal_v2(*mut CUdeviceptr, *mut usize, Handle, *const c_char);
    cuLibraryGetKernel(*mut Handle, Handle, *const c_char);
    cuLibraryGetKernelCount(*mut u32, Handle);
    cuLibraryEnumerateKernels(*mut Handle, u32, Handle);
    cuLibraryGetGlobal(*mut CUdeviceptr, *mut usize, Handle, *const c_char);
    cuLibraryUnload(Handle);
    cuStreamCreate(*mut Handle, u32);
    cuStreamCreateWithPriority(*mut Handle, u32, i32);
    cuLaunchHostFunc(Handle, *mut c_void, *mut c_void);
    cuLaunchHostFunc_ptsz(Handle, *mut c_void, *mut c_void);
    cuLaunchHostFunc_v2(Handle, *mut c_void, *mut c_void, u32);
    cuLaunchHostFunc_v2_ptsz(Handle, *mut c_void, *mut c_void, u32);
    cuStreamAddCallback(Handle, *mut c_void, *mut c_void, u32);
    cuStreamAddCallback_ptsz(Handle, *mut c_void, *mut c_void, u32);
    cuStreamDestroy(Handle);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamSynchronize_ptsz(Handle);
    cuStreamGetCtx(Handle, *mut Handle);
    cuStreamIsCapturing(Handle, *mut i32);
    cuStreamIsCapturing_ptsz(Handle, *mut i32);
    cuStreamWaitEvent(Handle, Handle, u32);
    cuEventCreate(*mut Handle, u32);
    cuEventDestroy_v2(Handle);
    cuEventRecord(Handle, Handle);
    cuEventQuery(Handle);
    cuEventSynchronize(Handle);
    cuThreadExchangeStreamCaptureMode(*mut i32);
}

static API: OnceLock<Api> = OnceLock::new();

/// The real driver, once it was found.
#[inline]
pub fn api() -> Option<&'static Api> {
    API.get()
}

/// Makes `api` the real driver of this process; the first call wins.
pub fn install(api: Api) -> &'static Api {
    API.get_or_init(|| api)
}

/// What the real driver says its version is (13000 for 13.0); 0 without a driver.
#[inline]
pub fn version() -> i32 {
    api().map_or(0, |api| api.version)
}
