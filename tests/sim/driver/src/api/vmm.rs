//! Virtual memory management.

use super::{device, out};
use crate::abi::{AccessDesc, AllocationProp, CUdeviceptr, Location, ON_DEVICE, code};
use crate::entry::api;
use crate::handles::Id;
use crate::space::{Physical, SPACE};
use crate::{settings, share, sim};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

const POSIX_FD: u32 = 1;

/// Handles by number, with how often they are held.
static HANDLES: Mutex<Option<HashMap<u64, Held>>> = Mutex::new(None);

struct Held {
    id: Id,
    physical: Arc<Physical>,
    times: u32,
}

/// The handle of memory, held once more; a new one if there is none any more.
fn retain(physical: Arc<Physical>) -> u64 {
    let mut handles = HANDLES.lock();
    let all = handles.get_or_insert_default();
    match all.values_mut().find(|h| Arc::ptr_eq(&h.physical, &physical)) {
        Some(held) => {
            held.times += 1;
            held.id.get() as u64
        }
        None => hold(all, physical),
    }
}

/// A new handle, held once.
fn hold(all: &mut HashMap<u64, Held>, physical: Arc<Physical>) -> u64 {
    let id = Id::new();
    let number = id.get() as u64;
    all.insert(number, Held { id, physical, times: 1 });
    number
}

/// The devices of all live handles.
pub fn live_handles() -> Vec<usize> {
    HANDLES.lock().iter().flat_map(HashMap::values).map(|h| h.physical.card).collect()
}

fn physical(handle: u64) -> Result<Arc<Physical>, u32> {
    let handles = HANDLES.lock();
    let found = handles.as_ref().and_then(|h| h.get(&handle)).map(|h| h.physical.clone());
    found.ok_or(code::INVALID_VALUE)
}

fn whole(bytes: u64) -> bool {
    bytes > 0 && bytes.is_multiple_of(settings::get().granularity)
}

/// The card, and whether the memory may be exported.
fn properties(prop: *const AllocationProp) -> Result<(usize, bool), u32> {
    // SAFETY: the program passes a structure or null.
    let prop = unsafe { prop.as_ref() }.ok_or(code::INVALID_VALUE)?;
    if prop.kind != 1 || prop.location.kind != ON_DEVICE {
        return Err(code::INVALID_VALUE);
    }
    match prop.handle_types {
        0 | POSIX_FD => Ok((device(prop.location.id)?, prop.handle_types == POSIX_FD)),
        _ => Err(code::NOT_SUPPORTED),
    }
}

api! {
    fn cuMemGetAllocationGranularity(bytes: *mut usize, prop: *const AllocationProp, _option: u32) {
        properties(prop)?;
        out(bytes, settings::get().granularity as usize)
    }

    fn cuMemAddressReserve(ptr: *mut CUdeviceptr, bytes: usize, align: usize, hint: CUdeviceptr, flags: u64) {
        sim::ready()?;
        let align_ok = align == 0 || align.is_power_of_two();
        if ptr.is_null() || flags != 0 || !whole(bytes as u64) || !align_ok {
            return Err(code::INVALID_VALUE);
        }
        let align = (align as u64).max(settings::get().granularity);
        let at = SPACE.lock().reserve(bytes as u64, align, hint, false)?;
        out(ptr, at)
    }

    fn cuMemAddressFree(ptr: CUdeviceptr, bytes: usize) {
        sim::ready()?;
        SPACE.lock().unreserve(ptr, bytes as u64, false)
    }

    fn cuMemCreate(handle: *mut u64, bytes: usize, prop: *const AllocationProp, flags: u64) {
        sim::ready()?;
        let (card, shareable) = properties(prop)?;
        if handle.is_null() || flags != 0 || !whole(bytes as u64) {
            return Err(code::INVALID_VALUE);
        }
        let physical = Physical::new(card, bytes as u64, shareable)?;
        out(handle, hold(HANDLES.lock().get_or_insert_default(), physical))
    }

    fn cuMemRelease(handle: u64) {
        sim::ready()?;
        let mut handles = HANDLES.lock();
        let all = handles.get_or_insert_default();
        let held = all.get_mut(&handle).ok_or(code::INVALID_VALUE)?;
        held.times -= 1;
        if held.times == 0 {
            all.remove(&handle);
        }
        Ok(())
    }

    fn cuMemMap(ptr: CUdeviceptr, bytes: usize, offset: usize, handle: u64, flags: u64) {
        sim::ready()?;
        if offset != 0 || flags != 0 || !ptr.is_multiple_of(settings::get().granularity) {
            return Err(code::INVALID_VALUE);
        }
        SPACE.lock().map(ptr, bytes as u64, physical(handle)?, false)
    }

    fn cuMemUnmap(ptr: CUdeviceptr, bytes: usize) {
        sim::ready()?;
        let mut space = SPACE.lock();
        match space.reservation(ptr) {
            Some((_, _, false)) => space.unmap(ptr, bytes as u64),
            _ => Err(code::INVALID_VALUE),
        }
    }

    fn cuMemSetAccess(ptr: CUdeviceptr, bytes: usize, descs: *const AccessDesc, count: usize) {
        sim::ready()?;
        if descs.is_null() || count == 0 {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the program says that `count` entries are there.
        let descs = unsafe { std::slice::from_raw_parts(descs, count) };
        let (mut allow, mut forbid) = (0, 0);
        for desc in descs {
            if desc.location.kind != ON_DEVICE {
                return Err(code::INVALID_VALUE);
            }
            let bit = 1 << device(desc.location.id)?;
            match desc.flags {
                0 => forbid |= bit,
                1 | 3 => allow |= bit,
                _ => return Err(code::INVALID_VALUE),
            }
        }
        let mut space = SPACE.lock();
        match space.reservation(ptr) {
            Some((_, _, false)) => space.set_access(ptr, bytes as u64, allow, forbid),
            _ => Err(code::INVALID_VALUE),
        }
    }

    fn cuMemGetAccess(flags: *mut u64, location: *const Location, ptr: CUdeviceptr) {
        sim::ready()?;
        // SAFETY: the program passes a structure or null.
        let location = unsafe { location.as_ref() }.ok_or(code::INVALID_VALUE)?;
        let bit = 1 << device(location.id)?;
        let space = SPACE.lock();
        let (_, mapping) = space.mapping(ptr).ok_or(code::INVALID_VALUE)?;
        out(flags, if mapping.access & bit != 0 { 3 } else { 0 })
    }

    fn cuMemGetAllocationPropertiesFromHandle(prop: *mut AllocationProp, handle: u64) {
        sim::ready()?;
        let physical = physical(handle)?;
        out(prop, AllocationProp {
            kind: 1,
            handle_types: if physical.shareable { POSIX_FD } else { 0 },
            location: Location { kind: ON_DEVICE, id: physical.card as i32 },
            win32: std::ptr::null_mut(),
            flags: [0; 8],
        })
    }

    fn cuMemRetainAllocationHandle(handle: *mut u64, ptr: *mut c_void) {
        sim::ready()?;
        let found = {
            let space = SPACE.lock();
            match space.reservation(ptr as u64) {
                Some((_, _, false)) => space.mapping(ptr as u64).map(|(_, m)| m.physical.clone()),
                _ => None,
            }
        };
        out(handle, retain(found.ok_or(code::INVALID_VALUE)?))
    }

    fn cuMemExportToShareableHandle(to: *mut c_void, handle: u64, kind: u32, flags: u64) {
        sim::ready()?;
        let physical = physical(handle)?;
        if kind != POSIX_FD || flags != 0 || !physical.shareable {
            return Err(code::INVALID_VALUE);
        }
        out(to.cast::<i32>(), share::export(&physical)?)
    }

    fn cuMemImportFromShareableHandle(handle: *mut u64, from: *mut c_void, kind: u32) {
        sim::ready()?;
        if handle.is_null() || kind != POSIX_FD {
            return Err(code::INVALID_VALUE);
        }
        out(handle, retain(share::import(from as usize as i32)?))
    }
}
