//! Initialisation, devices and contexts.

use crate::{Context, Device, Driver, Event, Result, call, text_of};
use std::ffi::c_int;

impl Driver {
    /// `cuInit(0)`.
    pub fn init(&self) -> Result<()> {
        self.init_with(0)
    }

    /// `cuInit`.
    pub fn init_with(&self, flags: u32) -> Result<()> {
        call!(self.cuInit(flags))
    }

    /// `cuDriverGetVersion`.
    pub fn version(&self) -> Result<u32> {
        let mut version = 0;
        call!(self.cuDriverGetVersion(&mut version))?;
        Ok(version as u32)
    }

    /// `cuDeviceGetCount`.
    pub fn device_count(&self) -> Result<u32> {
        let mut count = 0;
        call!(self.cuDeviceGetCount(&mut count))?;
        Ok(count as u32)
    }

    /// `cuDeviceGet`.
    pub fn device(&self, ordinal: i32) -> Result<Device> {
        let mut device = -1;
        call!(self.cuDeviceGet(&mut device, ordinal))?;
        Ok(device)
    }

    /// `cuDeviceGetName`.
    pub fn device_name(&self, device: Device) -> Result<String> {
        let mut name = [0; 256];
        call!(self.cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device))?;
        Ok(text_of(name.as_ptr()))
    }

    /// `cuDeviceGetUuid_v2`.
    pub fn device_uuid(&self, device: Device) -> Result<[u8; 16]> {
        let mut uuid = [0; 16];
        call!(self.cuDeviceGetUuid(&mut uuid, device))?;
        Ok(uuid)
    }

    /// `cuDeviceTotalMem`.
    pub fn device_total_mem(&self, device: Device) -> Result<usize> {
        let mut bytes = 0;
        call!(self.cuDeviceTotalMem(&mut bytes, device))?;
        Ok(bytes)
    }

    /// `cuDeviceGetAttribute`.
    pub fn device_attribute(&self, attribute: u32, device: Device) -> Result<i32> {
        let mut value = 0;
        call!(self.cuDeviceGetAttribute(&mut value, attribute, device))?;
        Ok(value)
    }

    /// `cuDeviceCanAccessPeer`.
    pub fn can_access_peer(&self, device: Device, peer: Device) -> Result<bool> {
        let mut can = 0;
        call!(self.cuDeviceCanAccessPeer(&mut can, device, peer))?;
        Ok(can != 0)
    }

    /// `cuDevicePrimaryCtxRetain`.
    pub fn primary_retain(&self, device: Device) -> Result<Context> {
        let mut context = Context::NULL;
        call!(self.cuDevicePrimaryCtxRetain(&mut context, device))?;
        Ok(context)
    }

    /// `cuDevicePrimaryCtxRelease`.
    pub fn primary_release(&self, device: Device) -> Result<()> {
        call!(self.cuDevicePrimaryCtxRelease(device))
    }

    /// `cuDevicePrimaryCtxReset`.
    pub fn primary_reset(&self, device: Device) -> Result<()> {
        call!(self.cuDevicePrimaryCtxReset(device))
    }

    /// `cuDevicePrimaryCtxGetState`: flags, and whether the context is active.
    pub fn primary_state(&self, device: Device) -> Result<(u32, bool)> {
        let (mut flags, mut active) = (0, 0);
        call!(self.cuDevicePrimaryCtxGetState(device, &mut flags, &mut active))?;
        Ok((flags, active != 0))
    }

    /// Initialises, retains the primary context of a device and makes it current.
    pub fn start(&self, ordinal: i32) -> Result<(Device, Context)> {
        self.init()?;
        let device = self.device(ordinal)?;
        let context = self.primary_retain(device)?;
        self.ctx_set_current(context)?;
        Ok((device, context))
    }

    /// `cuCtxCreate`; the new context is current.
    pub fn ctx_create(&self, flags: u32, device: Device) -> Result<Context> {
        let mut context = Context::NULL;
        call!(self.cuCtxCreate(&mut context, flags, device))?;
        Ok(context)
    }

    /// `cuCtxDestroy`.
    pub fn ctx_destroy(&self, context: Context) -> Result<()> {
        call!(self.cuCtxDestroy(context))
    }

    /// `cuCtxPushCurrent`.
    pub fn ctx_push(&self, context: Context) -> Result<()> {
        call!(self.cuCtxPushCurrent(context))
    }

    /// `cuCtxPopCurrent`.
    pub fn ctx_pop(&self) -> Result<Context> {
        let mut context = Context::NULL;
        call!(self.cuCtxPopCurrent(&mut context))?;
        Ok(context)
    }

    /// `cuCtxSetCurrent`.
    pub fn ctx_set_current(&self, context: Context) -> Result<()> {
        call!(self.cuCtxSetCurrent(context))
    }

    /// `cuCtxGetCurrent`.
    pub fn ctx_current(&self) -> Result<Context> {
        let mut context = Context::NULL;
        call!(self.cuCtxGetCurrent(&mut context))?;
        Ok(context)
    }

    /// `cuCtxGetDevice`.
    pub fn ctx_device(&self) -> Result<Device> {
        let mut device = -1;
        call!(self.cuCtxGetDevice(&mut device))?;
        Ok(device)
    }

    /// `cuCtxGetApiVersion`.
    pub fn ctx_api_version(&self, context: Context) -> Result<u32> {
        let mut version = 0;
        call!(self.cuCtxGetApiVersion(context, &mut version))?;
        Ok(version)
    }

    /// `cuCtxSynchronize`.
    pub fn ctx_synchronize(&self) -> Result<()> {
        call!(self.cuCtxSynchronize())
    }

    /// `cuCtxEnablePeerAccess`.
    pub fn ctx_enable_peer_access(&self, peer: Context) -> Result<()> {
        call!(self.cuCtxEnablePeerAccess(peer, 0))
    }

    /// `cuCtxDisablePeerAccess`.
    pub fn ctx_disable_peer_access(&self, peer: Context) -> Result<()> {
        call!(self.cuCtxDisablePeerAccess(peer))
    }

    /// `cuCtxRecordEvent`: all work of the context so far.
    pub fn ctx_record_event(&self, context: Context, event: Event) -> Result<()> {
        call!(self.cuCtxRecordEvent(context, event))
    }

    /// `cuCtxWaitEvent`: all later work of the context.
    pub fn ctx_wait_event(&self, context: Context, event: Event) -> Result<()> {
        call!(self.cuCtxWaitEvent(context, event))
    }
}
