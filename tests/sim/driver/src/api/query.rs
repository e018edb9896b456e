//! Questions about addresses.

use super::out;
use crate::abi::{CUdeviceptr, code};
use crate::entry::api;
use crate::memory::{self, Kind};
use crate::space::SPACE;
use crate::{context, sim};
use std::ffi::c_void;

/// What is known about an address.
struct About {
    base: u64,
    bytes: u64,
    ctx: u64,
    device: i32,
    id: u64,
    host: bool,
    managed: bool,
    pool: u64,
    vmm: bool,
    mapped: bool,
    /// Mapped, and somebody may touch it.
    open: bool,
    /// The mapping of virtual memory management and its physical memory: base, bytes, number.
    mapping: (u64, u64, u64),
}

fn about(at: u64) -> Option<About> {
    if let Some(a) = memory::containing(at) {
        let pool = if let Kind::Pool(p) = a.kind { p as u64 } else { 0 };
        return Some(About {
            base: a.base,
            bytes: a.bytes,
            ctx: a.ctx as u64,
            device: a.device as i32,
            id: a.id,
            host: false,
            managed: a.kind == Kind::Managed,
            pool,
            vmm: false,
            mapped: true,
            open: true,
            mapping: (0, 0, 0),
        });
    }
    if let Some((start, host)) = memory::host_containing(at as usize) {
        return Some(About {
            base: start as u64,
            bytes: host.bytes as u64,
            ctx: context::current_handle() as u64,
            device: 0,
            id: host.id,
            host: true,
            managed: false,
            pool: 0,
            vmm: false,
            mapped: true,
            open: true,
            mapping: (0, 0, 0),
        });
    }
    let space = SPACE.lock();
    let (base, bytes, internal) = space.reservation(at)?;
    if internal {
        return None;
    }
    let mapping = space.mapping(at);
    Some(About {
        base,
        bytes,
        ctx: 0,
        device: mapping.map_or(0, |(_, m)| m.physical.card as i32),
        id: mapping.map_or(0, |(_, m)| m.id),
        host: false,
        managed: false,
        pool: 0,
        vmm: true,
        mapped: mapping.is_some(),
        open: mapping.is_some_and(|(_, m)| m.access != 0),
        mapping: mapping.map_or((0, 0, 0), |(start, m)| (start, m.bytes, m.physical.id)),
    })
}

fn attribute(to: *mut c_void, which: i32, at: u64) -> Result<(), u32> {
    // A reservation alone is nothing to the single query.
    let known = about(at).filter(|k| k.mapped).ok_or(code::INVALID_VALUE)?;
    match which {
        1 => out(to.cast(), known.ctx),
        2 => out(to.cast(), if known.host { 1u32 } else { 2 }),
        3 if known.open => out(to.cast(), at),
        4 if known.host || known.managed => out(to.cast(), at),
        6 => out(to.cast(), 0u8),
        7 => out(to.cast(), known.id),
        8 => out(to.cast(), u8::from(known.managed)),
        9 => out(to.cast(), known.device),
        10 => {
            out(to.cast(), u8::from(!known.host && !known.vmm && known.pool == 0 && !known.managed))
        }
        11 => out(to.cast(), known.base),
        12 => out(to.cast(), known.bytes as usize),
        13 => out(to.cast(), 1u8),
        14 => out(to.cast(), 0u32),
        15 => out(to.cast(), 0u8),
        16 => out(to.cast(), 3u32),
        17 => out(to.cast(), known.pool),
        18..=20 if known.mapping.1 == 0 => Err(code::INVALID_VALUE),
        18 => out(to.cast(), known.mapping.1),
        19 => out(to.cast(), known.mapping.0),
        20 => out(to.cast(), known.mapping.2),
        _ => Err(code::INVALID_VALUE),
    }
}

/// What the list query says of an attribute that the single one refuses: null or zero, but of an
/// address with nothing behind it that it is a host address of no device, and its reservation.
fn refused(to: *mut c_void, which: i32, at: u64) -> Result<(), u32> {
    let known = about(at);
    let reserved = known.as_ref().filter(|k| !k.mapped).map_or((0, 0), |k| (k.base, k.bytes));
    let nothing = known.is_none_or(|k| !k.mapped);
    match which {
        4 if nothing => out(to.cast(), at),
        9 if nothing => out(to.cast(), NO_DEVICE),
        11 => out(to.cast(), reserved.0),
        12 => out(to.cast(), reserved.1),
        2 | 9 | 14 | 16 => out(to.cast(), 0u32),
        6 | 8 | 10 | 13 | 15 => out(to.cast(), 0u8),
        _ => out(to.cast(), 0u64),
    }
}

/// CU_DEVICE_INVALID
const NO_DEVICE: i32 = -2;

api! {
    fn cuMemGetAddressRange_v2(base: *mut CUdeviceptr, bytes: *mut usize, ptr: CUdeviceptr) {
        context::current()?;
        let known = about(ptr).filter(|k| !k.host && k.open).ok_or(code::NOT_FOUND)?;
        let range = match known.mapping {
            (start, bytes, _) if known.vmm => (start, bytes),
            _ => (known.base, known.bytes),
        };
        if !base.is_null() {
            out(base, range.0)?;
        }
        if bytes.is_null() { Ok(()) } else { out(bytes, range.1 as usize) }
    }

    fn cuPointerGetAttribute(to: *mut c_void, which: i32, ptr: CUdeviceptr) {
        sim::ready()?;
        attribute(to, which, ptr)
    }

    fn cuPointerGetAttributes(n: u32, which: *mut i32, to: *mut *mut c_void, ptr: CUdeviceptr) {
        sim::ready()?;
        for i in 0..n as usize {
            // SAFETY: the program says that `n` entries are in both lists.
            let (which, to) = unsafe { (*which.add(i), *to.add(i)) };
            if attribute(to, which, ptr).is_err() {
                refused(to, which, ptr)?;
            }
        }
        Ok(())
    }

    fn cuPointerSetAttribute(_value: *const c_void, which: i32, ptr: CUdeviceptr) {
        sim::ready()?;
        about(ptr).ok_or(code::INVALID_VALUE)?;
        if which == 6 { Ok(()) } else { Err(code::INVALID_VALUE) }
    }
}
