//! Device memory that coding takes: where pages pass through, and the kernels' work space.
//!
//! It is taken from what an eviction has just freed, never before the first shortage, and charged
//! under the limit like everything else. It lies in front of the device's store.

use super::engine::Device;
use super::memory;
use super::ticket::Work;
use crate::codec::PAGE;
use crate::codec::kernels::{DECODE_SCRATCH, ENCODE_SCRATCH};
use crate::vmm;

/// Bytes a page takes in it.
const EACH: u64 = (2 * PAGE + 64 + SPACE) as u64;
/// Work space of one warp.
const SPACE: usize = if ENCODE_SCRATCH > DECODE_SCRATCH { ENCODE_SCRATCH } else { DECODE_SCRATCH };
/// No more than this, on a card of any size. A page keeps one warp busy, so a large card would like more; but
/// until as much has come free pages are worked on by the host.
const MOST: u64 = 64 << 20;

/// Where things are in it. Room for as many pages and warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    base: u64,
    /// Pages that can be worked on at once.
    pub pages: usize,
}

impl Scratch {
    /// A page's room for its blob.
    pub fn blob(&self, i: usize) -> u64 {
        self.base + (i * PAGE) as u64
    }

    /// A page's room for its decoded bytes, where nobody wants them.
    pub fn decoded(&self, i: usize) -> u64 {
        self.blob(self.pages + i)
    }

    /// Descriptors.
    pub fn descriptors(&self) -> u64 {
        self.blob(2 * self.pages)
    }

    /// Addresses of pages.
    pub fn addresses(&self) -> u64 {
        self.descriptors() + 32 * self.pages as u64
    }

    /// Lengths of pages, or verdicts on them.
    pub fn words(&self) -> u64 {
        self.addresses() + 8 * self.pages as u64
    }

    /// Work space of the warps.
    pub fn space(&self) -> u64 {
        (self.words() + 4 * self.pages as u64).next_multiple_of(256)
    }
}

/// Pages that are worked on at once on `device`; 0 where its limit is too small for any.
fn pages(device: &Device) -> usize {
    let most = (device.limit / 32).max((device.limit / 8).min(8 * EACH)).min(MOST);
    ((most / EACH) as usize).min((most.saturating_sub(256) / EACH) as usize)
}

/// Bytes of it, whole granules.
fn bytes(device: &Device) -> u64 {
    (pages(device) as u64 * EACH + 256).next_multiple_of(device.sizes.granule)
}

/// Reserves the addresses of scratch and store; true if they are there.
pub fn open(device: &Device, work: &mut Work) -> bool {
    /// What a descriptor can tell apart.
    const REACH: u64 = 16 << 32;
    let store = work.store(device.ordinal);
    if store.base().is_some() {
        return true;
    }
    let granule = device.sizes.granule;
    let front = bytes(device);
    let stride = (device.limit / 32).clamp(128 << 10, 64 << 20).next_multiple_of(granule);
    let span = (device.limit * 2).next_multiple_of(stride).min(REACH - front - stride);
    let most = (span / stride).max(1);
    let bytes = (front + most * stride).next_multiple_of(granule);
    match vmm::reserve(bytes as usize, granule as usize, 0) {
        Ok(base) => {
            store.open(base, front, stride, most as u32);
            true
        }
        Err(_) => false,
    }
}

/// The scratch of `device`, made at the first call that finds memory for it.
pub fn of(device: &Device, work: &mut Work) -> Option<Scratch> {
    let pages = pages(device);
    if pages == 0 || !open(device, work) {
        return None;
    }
    let base = work.store(device.ordinal).base()?;
    if work.store(device.ordinal).scratch().is_empty() {
        let granules = (bytes(device) / device.sizes.granule) as u32;
        let handles = memory::spare(device, granules)?;
        memory::map_run(device, base, 0, &handles).ok()?;
        work.store(device.ordinal).set_scratch(handles);
    }
    Some(Scratch { base, pages })
}

/// Gives the scratch back, for a device whose last context goes.
pub fn close(device: &Device, work: &mut Work) {
    let store = work.store(device.ordinal);
    let (Some(base), bytes) = (store.base(), bytes(device)) else { return };
    if !store.scratch().is_empty() && vmm::unmap(base, bytes as usize).is_ok() {
        memory::pool(device, store.set_scratch(Vec::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let scratch = Scratch { base: 0x10_0000, pages: 7 };
        let parts = [
            (scratch.blob(0), 7 * PAGE as u64),
            (scratch.decoded(0), 7 * PAGE as u64),
            (scratch.descriptors(), 7 * 32),
            (scratch.addresses(), 7 * 8),
            (scratch.words(), 7 * 4),
            (scratch.space(), 7 * SPACE as u64),
        ];
        assert!(parts.is_sorted_by(|a, b| a.0 + a.1 <= b.0), "{parts:x?}");
        let (last, len) = parts[5];
        assert!(last + len <= 0x10_0000 + 7 * EACH + 256);
    }
}
