//! Copies and memsets. The plain forms use the default stream of the lookup that was chosen.

use crate::{Context, Copy2d, Copy3d, DevicePtr, Driver, Result, Stream, call};
use std::ffi::c_void;

/// Types that may be copied to and from the device as their bytes.
pub trait Plain: Copy + Default + 'static {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i32 {}
impl Plain for f32 {}

impl Driver {
    /// `cuMemcpyHtoD` of a slice.
    pub fn upload<T: Plain>(&self, to: DevicePtr, from: &[T]) -> Result<()> {
        call!(self.cuMemcpyHtoD(to, from.as_ptr().cast(), size_of_val(from)))
    }

    /// `cuMemcpyDtoH` into a slice.
    pub fn download<T: Plain>(&self, to: &mut [T], from: DevicePtr) -> Result<()> {
        call!(self.cuMemcpyDtoH(to.as_mut_ptr().cast(), from, size_of_val(to)))
    }

    /// `cuMemcpyDtoH` into a new vector.
    pub fn read<T: Plain>(&self, from: DevicePtr, count: usize) -> Result<Vec<T>> {
        let mut out = vec![T::default(); count];
        self.download(&mut out, from)?;
        Ok(out)
    }

    /// `cuMemcpyHtoD`.
    ///
    /// # Safety
    /// `from` is readable for `bytes`.
    pub unsafe fn copy_h2d(&self, to: DevicePtr, from: *const c_void, bytes: usize) -> Result<()> {
        call!(self.cuMemcpyHtoD(to, from, bytes))
    }

    /// `cuMemcpyDtoH`.
    ///
    /// # Safety
    /// `to` is writable for `bytes`.
    pub unsafe fn copy_d2h(&self, to: *mut c_void, from: DevicePtr, bytes: usize) -> Result<()> {
        call!(self.cuMemcpyDtoH(to, from, bytes))
    }

    /// `cuMemcpyHtoDAsync`.
    ///
    /// # Safety
    /// `from` is readable for `bytes` and unchanged until the stream has passed.
    pub unsafe fn copy_h2d_async(
        &self,
        to: DevicePtr,
        from: *const c_void,
        bytes: usize,
        stream: Stream,
    ) -> Result<()> {
        call!(self.cuMemcpyHtoDAsync(to, from, bytes, stream))
    }

    /// `cuMemcpyDtoHAsync`.
    ///
    /// # Safety
    /// `to` is writable for `bytes` and untouched until the stream has passed.
    pub unsafe fn copy_d2h_async(
        &self,
        to: *mut c_void,
        from: DevicePtr,
        bytes: usize,
        stream: Stream,
    ) -> Result<()> {
        call!(self.cuMemcpyDtoHAsync(to, from, bytes, stream))
    }

    /// `cuMemcpyDtoD`.
    pub fn copy_d2d(&self, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        call!(self.cuMemcpyDtoD(to, from, bytes))
    }

    /// `cuMemcpyDtoDAsync`.
    pub fn copy_d2d_async(
        &self,
        to: DevicePtr,
        from: DevicePtr,
        bytes: usize,
        stream: Stream,
    ) -> Result<()> {
        call!(self.cuMemcpyDtoDAsync(to, from, bytes, stream))
    }

    /// `cuMemcpy`: the addresses say which kind each side is.
    ///
    /// # Safety
    /// A side that is a host address is valid for `bytes`.
    pub unsafe fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        call!(self.cuMemcpy(to, from, bytes))
    }

    /// `cuMemcpyAsync`.
    ///
    /// # Safety
    /// A side that is a host address is valid for `bytes` until the stream has passed.
    pub unsafe fn copy_async(
        &self,
        to: DevicePtr,
        from: DevicePtr,
        bytes: usize,
        stream: Stream,
    ) -> Result<()> {
        call!(self.cuMemcpyAsync(to, from, bytes, stream))
    }

    /// `cuMemcpyPeer`.
    pub fn copy_peer(
        &self,
        to: (DevicePtr, Context),
        from: (DevicePtr, Context),
        bytes: usize,
    ) -> Result<()> {
        call!(self.cuMemcpyPeer(to.0, to.1, from.0, from.1, bytes))
    }

    /// `cuMemcpyPeerAsync`.
    pub fn copy_peer_async(
        &self,
        to: (DevicePtr, Context),
        from: (DevicePtr, Context),
        bytes: usize,
        stream: Stream,
    ) -> Result<()> {
        call!(self.cuMemcpyPeerAsync(to.0, to.1, from.0, from.1, bytes, stream))
    }

    /// `cuMemcpy2D`.
    ///
    /// # Safety
    /// Host sides are valid for the whole rectangle.
    pub unsafe fn copy_2d(&self, copy: &Copy2d) -> Result<()> {
        call!(self.cuMemcpy2D(copy))
    }

    /// `cuMemcpy2DUnaligned`.
    ///
    /// # Safety
    /// Host sides are valid for the whole rectangle.
    pub unsafe fn copy_2d_unaligned(&self, copy: &Copy2d) -> Result<()> {
        call!(self.cuMemcpy2DUnaligned(copy))
    }

    /// `cuMemcpy2DAsync`.
    ///
    /// # Safety
    /// Host sides are valid for the whole rectangle until the stream has passed.
    pub unsafe fn copy_2d_async(&self, copy: &Copy2d, stream: Stream) -> Result<()> {
        call!(self.cuMemcpy2DAsync(copy, stream))
    }

    /// `cuMemcpy3D`.
    ///
    /// # Safety
    /// Host sides are valid for the whole box.
    pub unsafe fn copy_3d(&self, copy: &Copy3d) -> Result<()> {
        call!(self.cuMemcpy3D(copy))
    }

    /// `cuMemcpy3DAsync`.
    ///
    /// # Safety
    /// Host sides are valid for the whole box until the stream has passed.
    pub unsafe fn copy_3d_async(&self, copy: &Copy3d, stream: Stream) -> Result<()> {
        call!(self.cuMemcpy3DAsync(copy, stream))
    }

    /// `cuMemcpy3DPeer`.
    ///
    /// # Safety
    /// Host sides are valid for the whole box.
    pub unsafe fn copy_3d_peer(&self, copy: &Copy3d) -> Result<()> {
        call!(self.cuMemcpy3DPeer(copy))
    }

    /// `cuMemcpy3DPeerAsync`.
    ///
    /// # Safety
    /// Host sides are valid for the whole box until the stream has passed.
    pub unsafe fn copy_3d_peer_async(&self, copy: &Copy3d, stream: Stream) -> Result<()> {
        call!(self.cuMemcpy3DPeerAsync(copy, stream))
    }

    /// `cuMemsetD8`.
    pub fn set_d8(&self, at: DevicePtr, value: u8, count: usize) -> Result<()> {
        call!(self.cuMemsetD8(at, value, count))
    }

    /// `cuMemsetD16`.
    pub fn set_d16(&self, at: DevicePtr, value: u16, count: usize) -> Result<()> {
        call!(self.cuMemsetD16(at, value, count))
    }

    /// `cuMemsetD32`.
    pub fn set_d32(&self, at: DevicePtr, value: u32, count: usize) -> Result<()> {
        call!(self.cuMemsetD32(at, value, count))
    }

    /// `cuMemsetD8Async`.
    pub fn set_d8_async(&self, at: DevicePtr, value: u8, count: usize, on: Stream) -> Result<()> {
        call!(self.cuMemsetD8Async(at, value, count, on))
    }

    /// `cuMemsetD16Async`.
    pub fn set_d16_async(&self, at: DevicePtr, value: u16, count: usize, on: Stream) -> Result<()> {
        call!(self.cuMemsetD16Async(at, value, count, on))
    }

    /// `cuMemsetD32Async`.
    pub fn set_d32_async(&self, at: DevicePtr, value: u32, count: usize, on: Stream) -> Result<()> {
        call!(self.cuMemsetD32Async(at, value, count, on))
    }

    /// `cuMemsetD2D8`.
    pub fn set_2d_d8(
        &self,
        at: DevicePtr,
        pitch: usize,
        value: u8,
        width: usize,
        height: usize,
    ) -> Result<()> {
        call!(self.cuMemsetD2D8(at, pitch, value, width, height))
    }

    /// `cuMemsetD2D16`.
    pub fn set_2d_d16(
        &self,
        at: DevicePtr,
        pitch: usize,
        value: u16,
        width: usize,
        height: usize,
    ) -> Result<()> {
        call!(self.cuMemsetD2D16(at, pitch, value, width, height))
    }

    /// `cuMemsetD2D32`.
    pub fn set_2d_d32(
        &self,
        at: DevicePtr,
        pitch: usize,
        value: u32,
        width: usize,
        height: usize,
    ) -> Result<()> {
        call!(self.cuMemsetD2D32(at, pitch, value, width, height))
    }

    /// `cuMemsetD2D32Async`.
    pub fn set_2d_d32_async(
        &self,
        at: DevicePtr,
        pitch: usize,
        value: u32,
        size: (usize, usize),
        on: Stream,
    ) -> Result<()> {
        call!(self.cuMemsetD2D32Async(at, pitch, value, size.0, size.1, on))
    }
}
