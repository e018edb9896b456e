//! Virtual memory management: reservations, physical handles, mappings, access.

use crate::{
    AccessDesc, AllocationProp, Device, DevicePtr, Driver, MemHandle, MemLocation, Result, call,
    flag,
};
use std::ffi::c_void;

impl Driver {
    /// `cuMemGetAllocationGranularity` (minimum) of ordinary device memory.
    pub fn granularity(&self, device: Device) -> Result<usize> {
        self.granularity_of(&AllocationProp::device(device), flag::GRANULARITY_MINIMUM)
    }

    /// `cuMemGetAllocationGranularity`.
    pub fn granularity_of(&self, prop: &AllocationProp, option: u32) -> Result<usize> {
        let mut bytes = 0;
        call!(self.cuMemGetAllocationGranularity(&mut bytes, prop, option))?;
        Ok(bytes)
    }

    /// `cuMemAddressReserve`; `hint` zero for anywhere.
    pub fn reserve(&self, bytes: usize, alignment: usize, hint: DevicePtr) -> Result<DevicePtr> {
        let mut at = 0;
        call!(self.cuMemAddressReserve(&mut at, bytes, alignment, hint, 0))?;
        Ok(at)
    }

    /// `cuMemAddressFree`.
    pub fn address_free(&self, at: DevicePtr, bytes: usize) -> Result<()> {
        call!(self.cuMemAddressFree(at, bytes))
    }

    /// `cuMemCreate` of ordinary device memory.
    pub fn create(&self, bytes: usize, device: Device) -> Result<MemHandle> {
        self.create_with(bytes, &AllocationProp::device(device))
    }

    /// `cuMemCreate`.
    pub fn create_with(&self, bytes: usize, prop: &AllocationProp) -> Result<MemHandle> {
        let mut handle = MemHandle(0);
        call!(self.cuMemCreate(&mut handle, bytes, prop, 0))?;
        Ok(handle)
    }

    /// `cuMemRelease`.
    pub fn release(&self, handle: MemHandle) -> Result<()> {
        call!(self.cuMemRelease(handle))
    }

    /// `cuMemMap` of a whole handle.
    pub fn map(&self, at: DevicePtr, bytes: usize, handle: MemHandle) -> Result<()> {
        self.map_at(at, bytes, 0, handle)
    }

    /// `cuMemMap` with an offset into the handle.
    pub fn map_at(
        &self,
        at: DevicePtr,
        bytes: usize,
        offset: usize,
        handle: MemHandle,
    ) -> Result<()> {
        call!(self.cuMemMap(at, bytes, offset, handle, 0))
    }

    /// `cuMemUnmap`.
    pub fn unmap(&self, at: DevicePtr, bytes: usize) -> Result<()> {
        call!(self.cuMemUnmap(at, bytes))
    }

    /// `cuMemSetAccess`: reads and writes by one device.
    pub fn allow(&self, at: DevicePtr, bytes: usize, device: Device) -> Result<()> {
        self.set_access(at, bytes, &[AccessDesc::read_write(device)])
    }

    /// `cuMemSetAccess`.
    pub fn set_access(&self, at: DevicePtr, bytes: usize, who: &[AccessDesc]) -> Result<()> {
        call!(self.cuMemSetAccess(at, bytes, who.as_ptr(), who.len()))
    }

    /// `cuMemGetAccess`: the access a device has to an address.
    pub fn access_of(&self, at: DevicePtr, device: Device) -> Result<u64> {
        let (mut flags, location) = (0, MemLocation::device(device));
        call!(self.cuMemGetAccess(&mut flags, &location, at))?;
        Ok(flags)
    }

    /// `cuMemGetAllocationPropertiesFromHandle`.
    pub fn handle_properties(&self, handle: MemHandle) -> Result<AllocationProp> {
        let mut prop = AllocationProp::device(0);
        call!(self.cuMemGetAllocationPropertiesFromHandle(&mut prop, handle))?;
        Ok(prop)
    }

    /// `cuMemRetainAllocationHandle`: one more reference to what is mapped at an address.
    pub fn retain_handle(&self, at: DevicePtr) -> Result<MemHandle> {
        let mut handle = MemHandle(0);
        call!(self.cuMemRetainAllocationHandle(&mut handle, at as *mut c_void))?;
        Ok(handle)
    }

    /// `cuMemExportToShareableHandle` as a file descriptor.
    pub fn export_fd(&self, handle: MemHandle) -> Result<i32> {
        let mut fd = -1i32;
        call!(self.cuMemExportToShareableHandle(
            (&raw mut fd).cast(),
            handle,
            flag::HANDLE_POSIX_FD,
            0
        ))?;
        Ok(fd)
    }
}
