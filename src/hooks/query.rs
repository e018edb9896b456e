//! Questions about memory, answered from our tables: the answer is the same while a range is
//! evicted, and a restore does not change it.

use super::async_alloc::default_pool;
use super::{answer, latched, real};
use crate::driver::types::CUmemLocation;
use crate::driver::{Api, CUdeviceptr, CUresult, code};
use crate::hook;
use crate::intercept::guard;
use crate::registry::contexts;
use crate::residency::control::{self, Which};
use crate::residency::query::{self, Found};
use crate::residency::{engine, state::State};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

hook! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) |api| {
        let result = real!(api.cuMemGetInfo_v2(free, total));
        let device = match contexts::ask() {
            Ok(context) => context.and_then(engine::device_for),
            // A driver without contexts has no memory of ours either.
            Err(code::NOT_FOUND) => None,
            Err(e) if result == code::SUCCESS => return e,
            Err(_) => None,
        };
        if let (code::SUCCESS, Some(device)) = (result, device) {
            // SAFETY: the driver has written both.
            unsafe {
                let (now, all) = query::mem_info(device, *free as u64, *total as u64);
                *free = now as usize;
                *total = all as usize;
            }
        }
        result
    }

    fn cuMemGetAddressRange_v2(
        base: *mut CUdeviceptr,
        bytes: *mut usize,
        dptr: CUdeviceptr,
    ) |api| {
        if !query::covers(dptr) {
            return real!(api.cuMemGetAddressRange_v2(base, bytes, dptr));
        }
        match contexts::ask() {
            Ok(Some(_)) => {}
            Ok(None) => return code::INVALID_CONTEXT,
            Err(e) => return e,
        }
        guard::served(|| {
            let Some(found) = query::find(dptr) else { return code::NOT_FOUND };
            // SAFETY: the program's own pointers, each of which may be null.
            unsafe {
                answer(base, found.base);
                answer(bytes, found.allocation.size as usize);
            }
            code::SUCCESS
        })
    }

    fn cuMemGetAccess(flags: *mut u64, location: *const CUmemLocation, ptr: CUdeviceptr) |api| {
        let ours = query::find(ptr).filter(|_| query::covers(ptr));
        // SAFETY: the program passes a place, or null.
        let place = unsafe { location.as_ref() };
        match (ours, place) {
            (Some(found), Some(place)) if place.kind == ON_DEVICE && !flags.is_null() => {
                let access = u64::from(if may_access(found.device, place.id) { READ_WRITE } else { 0 });
                guard::served(|| {
                    // SAFETY: not null, and the program wants its answer there.
                    unsafe { answer(flags, access) };
                    code::SUCCESS
                })
            }
            _ => real!(api.cuMemGetAccess(flags, location, ptr)),
        }
    }

    fn cuPointerGetAttribute(data: *mut c_void, attribute: i32, ptr: CUdeviceptr) |api| {
        let call = || real!(api.cuPointerGetAttribute(data, attribute, ptr));
        if !query::covers(ptr) || data.is_null() {
            return call();
        }
        let Some(found) = query::find(ptr) else { return code::INVALID_VALUE };
        guard::served(|| match value(api, attribute, ptr, &found) {
            Some(Ok(value)) => {
                // SAFETY: the program gives room for this attribute.
                unsafe { value.write(data) };
                code::SUCCESS
            }
            Some(Err(e)) => e,
            None => ask(attribute, ptr, call),
        })
    }

    fn cuPointerGetAttributes(
        n: u32,
        attributes: *mut i32,
        data: *mut *mut c_void,
        ptr: CUdeviceptr,
    ) |api| {
        if !query::covers(ptr) || n == 0 || attributes.is_null() || data.is_null() {
            return real!(api.cuPointerGetAttributes(n, attributes, data, ptr));
        }
        let Some(found) = query::find(ptr) else {
            // As for any address that is nobody's, which is a host pointer to the driver: to itself.
            let nobody = (&raw const NOBODY) as CUdeviceptr;
            let result = real!(api.cuPointerGetAttributes(n, attributes, data, nobody));
            if result == code::SUCCESS {
                // SAFETY: the driver has read and filled `n` entries of both lists.
                unsafe { host_pointers(n, attributes, data, ptr) };
            }
            return result;
        };
        guard::served(|| {
            for i in 0..n as usize {
            // SAFETY: the program says that `n` entries are in both lists.
            let (attribute, to) = unsafe { (*attributes.add(i), *data.add(i)) };
            if to.is_null() {
                return code::INVALID_VALUE;
            }
            match value(api, attribute, ptr, &found) {
                // SAFETY: the program gives room for each attribute.
                Some(Ok(value)) => unsafe { value.write(to) },
                // What this memory does not have is null here, not an error.
                // SAFETY: as above.
                Some(Err(_)) => unsafe { Value::wide(0).write(to) },
                None => {
                    let call = || real!(api.cuPointerGetAttribute(to, attribute, ptr));
                    let result = ask(attribute, ptr, call);
                    if result != code::SUCCESS {
                        return result;
                    }
                }
            }
        }
        code::SUCCESS
        })
    }

    fn cuPointerSetAttribute(value: *const c_void, attribute: i32, ptr: CUdeviceptr) |api| {
        let call = || real!(api.cuPointerSetAttribute(value, attribute, ptr));
        // Programs set an attribute right before they show the memory to a network card.
        if query::covers(ptr) { latched("cuPointerSetAttribute", call) } else { call() }
    }
}

/// Writes `ptr` where the list asks for the host pointer.
///
/// # Safety
/// `n` entries are in both lists, with room for each attribute.
unsafe fn host_pointers(
    n: u32,
    attributes: *const i32,
    data: *const *mut c_void,
    ptr: CUdeviceptr,
) {
    for i in 0..n as usize {
        // SAFETY: the caller's promise.
        unsafe {
            if *attributes.add(i) == attribute::HOST_POINTER {
                Value::wide(ptr).write(*data.add(i));
            }
        }
    }
}

/// Host memory that was never shown to the driver.
static NOBODY: u64 = 0;

/// CU_MEM_LOCATION_TYPE_DEVICE
const ON_DEVICE: u32 = 1;
/// CU_MEM_ACCESS_FLAGS_PROT_READWRITE
const READ_WRITE: u32 = 3;
/// CU_MEMORYTYPE_DEVICE
const DEVICE_MEMORY: u64 = 2;

/// The driver's pointer attributes.
mod attribute {
    pub const CONTEXT: i32 = 1;
    pub const MEMORY_TYPE: i32 = 2;
    pub const DEVICE_POINTER: i32 = 3;
    pub const HOST_POINTER: i32 = 4;
    pub const P2P_TOKENS: i32 = 5;
    pub const SYNC_MEMOPS: i32 = 6;
    pub const BUFFER_ID: i32 = 7;
    pub const IS_MANAGED: i32 = 8;
    pub const DEVICE_ORDINAL: i32 = 9;
    pub const IS_LEGACY_IPC_CAPABLE: i32 = 10;
    pub const RANGE_START: i32 = 11;
    pub const RANGE_SIZE: i32 = 12;
    pub const MAPPED: i32 = 13;
    pub const ALLOWED_HANDLE_TYPES: i32 = 14;
    pub const IS_RDMA_CAPABLE: i32 = 15;
    pub const ACCESS_FLAGS: i32 = 16;
    pub const MEMPOOL_HANDLE: i32 = 17;
    pub const MAPPING_SIZE: i32 = 18;
    pub const MAPPING_BASE: i32 = 19;
    pub const MEMORY_BLOCK_ID: i32 = 20;
    pub const IS_DECOMPRESS_CAPABLE: i32 = 21;
    /// More than there are.
    pub const END: usize = 32;
}

/// An answer and how many bytes of it the program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    bits: u64,
    bytes: usize,
}

impl Value {
    fn wide(bits: u64) -> Value {
        Value { bits, bytes: 8 }
    }

    fn int(bits: u64) -> Value {
        Value { bits, bytes: 4 }
    }

    /// # Safety
    /// `bytes` may be written at `to`.
    unsafe fn write(self, to: *mut c_void) {
        let bits = self.bits.to_le_bytes();
        // SAFETY: the caller's promise; never more than the 8 bytes of `bits`.
        unsafe { to.cast::<u8>().copy_from_nonoverlapping(bits.as_ptr(), self.bytes.min(8)) };
    }
}

/// What an attribute of an allocation is; `None` where only the driver knows.
fn value(
    api: &Api,
    which: i32,
    ptr: CUdeviceptr,
    found: &Found,
) -> Option<Result<Value, CUresult>> {
    use attribute as a;
    let allocation = &found.allocation;
    let value = match which {
        a::CONTEXT => Value::wide(allocation.ctx as u64),
        a::MEMORY_TYPE => Value::int(DEVICE_MEMORY),
        a::DEVICE_POINTER => Value::wide(ptr),
        a::HOST_POINTER => return Some(Err(code::INVALID_VALUE)),
        a::BUFFER_ID | a::MEMORY_BLOCK_ID => Value::wide(allocation.id),
        a::DEVICE_ORDINAL => Value::int(u64::from(found.device)),
        a::RANGE_START | a::MAPPING_BASE => Value::wide(found.base),
        a::RANGE_SIZE | a::MAPPING_SIZE => Value::wide(allocation.size),
        a::MEMPOOL_HANDLE if allocation.stream_ordered => {
            Value::wide(default_pool(api, found.device).unwrap_or(0) as u64)
        }
        a::MEMPOOL_HANDLE => Value::wide(0),
        a::MAPPED => sized(api, which, 1, found),
        a::SYNC_MEMOPS
        | a::IS_MANAGED
        | a::IS_LEGACY_IPC_CAPABLE
        | a::ALLOWED_HANDLE_TYPES
        | a::IS_RDMA_CAPABLE
        | a::IS_DECOMPRESS_CAPABLE => sized(api, which, 0, found),
        a::ACCESS_FLAGS => {
            let me = contexts::current().map_or(-1, |c| i32::from(c.device));
            let flags = if may_access(found.device, me) { READ_WRITE } else { 0 };
            sized(api, which, u64::from(flags), found)
        }
        _ => return None,
    };
    Some(Ok(value))
}

/// An answer of as many bytes as the driver writes for this attribute. The headers say "boolean"
/// and programs differ in what they take that for, so the driver shows it once.
fn sized(api: &Api, which: i32, bits: u64, found: &Found) -> Value {
    static WIDTHS: [AtomicUsize; attribute::END] = [const { AtomicUsize::new(0) }; attribute::END];
    let Some(known) = usize::try_from(which).ok().and_then(|i| WIDTHS.get(i)) else {
        return Value::int(bits);
    };
    if known.load(Ordering::Relaxed) == 0
        && let Some(width) = resident(found).and_then(|ptr| width(api, which, ptr))
    {
        known.store(width, Ordering::Relaxed);
    }
    match known.load(Ordering::Relaxed) {
        0 => Value { bits, bytes: 1 },
        bytes => Value { bits, bytes },
    }
}

/// An address of ours that the driver knows as mapped: the one asked for, or any.
fn resident(found: &Found) -> Option<CUdeviceptr> {
    let mut any = None;
    query::each(|other, state| {
        if state == State::Resident && (any.is_none() || other.base == found.base) {
            any = Some(other.base);
        }
    });
    any
}

/// How many bytes the driver writes.
fn width(api: &Api, which: i32, ptr: CUdeviceptr) -> Option<usize> {
    let mut widest = 0;
    for filler in [0xA5u8, 0x5A] {
        let mut room = [filler; 64];
        // SAFETY: more room than any attribute takes.
        let result = unsafe { (api.cuPointerGetAttribute)(room.as_mut_ptr().cast(), which, ptr) };
        if result != code::SUCCESS {
            return None;
        }
        widest = widest.max(room.iter().rposition(|&b| b != filler).map_or(0, |at| at + 1));
    }
    (1..=8).contains(&widest).then_some(widest)
}

/// An attribute that only the driver knows: of memory that is there. Tokens let others in.
fn ask(attribute: i32, ptr: CUdeviceptr, call: impl FnOnce() -> CUresult) -> CUresult {
    if attribute == attribute::P2P_TOKENS {
        return latched("cuPointerGetAttribute of peer-to-peer tokens", call);
    }
    match control::restore_which(Which::At(ptr)) {
        Ok(()) => call(),
        Err(e) => e,
    }
}

fn may_access(owner: u8, device: i32) -> bool {
    let access = engine::device_of(owner).map_or(0, |d| d.access.load(Ordering::Relaxed));
    u32::try_from(device).is_ok_and(|bit| access.checked_shr(bit).unwrap_or(0) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_no_more_room_than_it_has() {
        let mut room = [0xEEu8; 12];
        // SAFETY: room for 12 bytes.
        unsafe {
            Value { bits: 1, bytes: 1 }.write(room.as_mut_ptr().cast());
            Value::int(7).write(room.as_mut_ptr().add(4).cast());
        }
        assert_eq!(room, [1, 0xEE, 0xEE, 0xEE, 7, 0, 0, 0, 0xEE, 0xEE, 0xEE, 0xEE]);
        // SAFETY: as above.
        unsafe { Value::wide(0x0102_0304_0506_0708).write(room.as_mut_ptr().cast()) };
        assert_eq!(room[..9], [8, 7, 6, 5, 4, 3, 2, 1, 0xEE]);
    }
}
