//! Allocation of device, pitched, managed, pooled and host memory, and queries about addresses.

use crate::{Context, Device, DevicePtr, Driver, Pool, PoolProps, Result, Stream, call, flag};
use std::ffi::c_void;

impl Driver {
    /// `cuMemGetInfo`: free and total bytes.
    pub fn mem_info(&self) -> Result<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        call!(self.cuMemGetInfo(&mut free, &mut total))?;
        Ok((free, total))
    }

    /// `cuMemAlloc`.
    pub fn mem_alloc(&self, bytes: usize) -> Result<DevicePtr> {
        let mut at = 0;
        call!(self.cuMemAlloc(&mut at, bytes))?;
        Ok(at)
    }

    /// `cuMemAllocPitch`: address and pitch.
    pub fn mem_alloc_pitch(
        &self,
        width: usize,
        height: usize,
        element: u32,
    ) -> Result<(DevicePtr, usize)> {
        let (mut at, mut pitch) = (0, 0);
        call!(self.cuMemAllocPitch(&mut at, &mut pitch, width, height, element))?;
        Ok((at, pitch))
    }

    /// `cuMemAllocManaged`.
    pub fn mem_alloc_managed(&self, bytes: usize, flags: u32) -> Result<DevicePtr> {
        let mut at = 0;
        call!(self.cuMemAllocManaged(&mut at, bytes, flags))?;
        Ok(at)
    }

    /// `cuMemFree`.
    pub fn mem_free(&self, at: DevicePtr) -> Result<()> {
        call!(self.cuMemFree(at))
    }

    /// `cuMemAllocAsync`.
    pub fn mem_alloc_async(&self, bytes: usize, stream: Stream) -> Result<DevicePtr> {
        let mut at = 0;
        call!(self.cuMemAllocAsync(&mut at, bytes, stream))?;
        Ok(at)
    }

    /// `cuMemAllocFromPoolAsync`.
    pub fn mem_alloc_from_pool(
        &self,
        bytes: usize,
        pool: Pool,
        stream: Stream,
    ) -> Result<DevicePtr> {
        let mut at = 0;
        call!(self.cuMemAllocFromPoolAsync(&mut at, bytes, pool, stream))?;
        Ok(at)
    }

    /// `cuMemFreeAsync`.
    pub fn mem_free_async(&self, at: DevicePtr, stream: Stream) -> Result<()> {
        call!(self.cuMemFreeAsync(at, stream))
    }

    /// `cuDeviceGetDefaultMemPool`.
    pub fn default_pool(&self, device: Device) -> Result<Pool> {
        let mut pool = Pool::NULL;
        call!(self.cuDeviceGetDefaultMemPool(&mut pool, device))?;
        Ok(pool)
    }

    /// `cuDeviceGetMemPool`.
    pub fn current_pool(&self, device: Device) -> Result<Pool> {
        let mut pool = Pool::NULL;
        call!(self.cuDeviceGetMemPool(&mut pool, device))?;
        Ok(pool)
    }

    /// `cuDeviceSetMemPool`.
    pub fn set_current_pool(&self, device: Device, pool: Pool) -> Result<()> {
        call!(self.cuDeviceSetMemPool(device, pool))
    }

    /// `cuMemPoolCreate`.
    pub fn pool_create(&self, props: &PoolProps) -> Result<Pool> {
        let mut pool = Pool::NULL;
        call!(self.cuMemPoolCreate(&mut pool, props))?;
        Ok(pool)
    }

    /// `cuMemPoolDestroy`.
    pub fn pool_destroy(&self, pool: Pool) -> Result<()> {
        call!(self.cuMemPoolDestroy(pool))
    }

    /// `cuMemPoolTrimTo`.
    pub fn pool_trim(&self, pool: Pool, keep: usize) -> Result<()> {
        call!(self.cuMemPoolTrimTo(pool, keep))
    }

    /// `cuMemPoolGetAttribute` of one of the 64-bit attributes.
    pub fn pool_attribute(&self, pool: Pool, attribute: u32) -> Result<u64> {
        let mut value = 0u64;
        call!(self.cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()))?;
        Ok(value)
    }

    /// `cuMemPoolSetAttribute` of one of the 64-bit attributes.
    pub fn set_pool_attribute(&self, pool: Pool, attribute: u32, value: u64) -> Result<()> {
        let mut value = value;
        call!(self.cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()))
    }

    /// `cuMemHostAlloc`.
    pub fn host_alloc(&self, bytes: usize, flags: u32) -> Result<*mut c_void> {
        let mut at = std::ptr::null_mut();
        call!(self.cuMemHostAlloc(&mut at, bytes, flags))?;
        Ok(at)
    }

    /// `cuMemAllocHost`.
    pub fn alloc_host(&self, bytes: usize) -> Result<*mut c_void> {
        let mut at = std::ptr::null_mut();
        call!(self.cuMemAllocHost(&mut at, bytes))?;
        Ok(at)
    }

    /// `cuMemFreeHost`.
    ///
    /// # Safety
    /// Nothing may use the memory any more.
    pub unsafe fn host_free(&self, at: *mut c_void) -> Result<()> {
        call!(self.cuMemFreeHost(at))
    }

    /// `cuMemHostRegister`.
    ///
    /// # Safety
    /// The range stays mapped until it is unregistered.
    pub unsafe fn host_register(&self, at: *mut c_void, bytes: usize, flags: u32) -> Result<()> {
        call!(self.cuMemHostRegister(at, bytes, flags))
    }

    /// `cuMemHostUnregister`.
    #[allow(clippy::not_unsafe_ptr_arg_deref, reason = "looked up, not read")]
    pub fn host_unregister(&self, at: *mut c_void) -> Result<()> {
        call!(self.cuMemHostUnregister(at))
    }

    /// `cuMemHostGetDevicePointer`.
    #[allow(clippy::not_unsafe_ptr_arg_deref, reason = "looked up, not read")]
    pub fn host_device_pointer(&self, at: *mut c_void) -> Result<DevicePtr> {
        let mut device = 0;
        call!(self.cuMemHostGetDevicePointer(&mut device, at, 0))?;
        Ok(device)
    }

    /// `cuMemHostGetFlags`.
    #[allow(clippy::not_unsafe_ptr_arg_deref, reason = "looked up, not read")]
    pub fn host_flags(&self, at: *mut c_void) -> Result<u32> {
        let mut flags = 0;
        call!(self.cuMemHostGetFlags(&mut flags, at))?;
        Ok(flags)
    }

    /// `cuMemGetAddressRange`: base and size.
    pub fn address_range(&self, at: DevicePtr) -> Result<(DevicePtr, usize)> {
        let (mut base, mut size) = (0, 0);
        call!(self.cuMemGetAddressRange(&mut base, &mut size, at))?;
        Ok((base, size))
    }

    /// `cuPointerGetAttribute` of an attribute of at most eight bytes, zero-extended.
    pub fn pointer_attribute(&self, attribute: u32, at: DevicePtr) -> Result<u64> {
        let mut value = [0u64; 2];
        call!(self.cuPointerGetAttribute(value.as_mut_ptr().cast(), attribute, at))?;
        Ok(value[0])
    }

    /// The context that owns an address.
    pub fn pointer_context(&self, at: DevicePtr) -> Result<Context> {
        Ok(Context(self.pointer_attribute(flag::POINTER_CONTEXT, at)? as usize))
    }

    /// `cuPointerGetAttributes` of attributes of at most eight bytes each. Unlike the single form
    /// it succeeds on unknown addresses and leaves zeros.
    pub fn pointer_attributes(&self, attributes: &[u32], at: DevicePtr) -> Result<Vec<u64>> {
        let mut values = vec![[0u64; 2]; attributes.len()];
        let mut data: Vec<*mut c_void> =
            values.iter_mut().map(|v| v.as_mut_ptr().cast::<c_void>()).collect();
        call!(self.cuPointerGetAttributes(
            attributes.len() as u32,
            attributes.as_ptr(),
            data.as_mut_ptr(),
            at
        ))?;
        Ok(values.into_iter().map(|v| v[0]).collect())
    }

    /// `cuPointerSetAttribute(SYNC_MEMOPS)`.
    pub fn set_sync_memops(&self, at: DevicePtr, on: bool) -> Result<()> {
        let value = u32::from(on);
        call!(self.cuPointerSetAttribute((&raw const value).cast(), flag::POINTER_SYNC_MEMOPS, at))
    }
}
