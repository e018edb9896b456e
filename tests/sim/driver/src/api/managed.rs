//! Advice and prefetches of managed memory. They move nothing here: managed memory is always within
//! reach of host and devices. What was asked for is remembered, for the whole allocation.

use super::{device, out};
use crate::abi::{CUdevice, CUdeviceptr, Handle, Location, ON_DEVICE, Outcome, code};
use crate::entry::api;
use crate::memory::{self, Allocation, Kind};
use crate::{context, stream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::c_void;

const CPU: i32 = -1;
const NOWHERE: i32 = -2;
const ON_HOST: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Advice {
    read_mostly: bool,
    preferred: i32,
    accessed_by: [bool; crate::card::MAX + 1],
    prefetched: i32,
}

const NONE: Advice = Advice {
    read_mostly: false,
    preferred: NOWHERE,
    accessed_by: [false; crate::card::MAX + 1],
    prefetched: NOWHERE,
};

/// By the allocation's number, which no other ever has.
static GIVEN: Mutex<Option<HashMap<u64, Advice>>> = Mutex::new(None);

fn managed(ptr: CUdeviceptr, bytes: usize) -> Outcome<Allocation> {
    let found = memory::containing(ptr).filter(|a| a.kind == Kind::Managed);
    found.filter(|_| memory::known_device_range(ptr, bytes as u64)).ok_or(code::INVALID_VALUE)
}

/// A location as a number: a device, or the host.
fn place(location: Location) -> Outcome<i32> {
    match location.kind {
        ON_DEVICE => Ok(device(location.id)? as i32),
        ON_HOST..=4 => Ok(CPU),
        _ => Err(code::INVALID_VALUE),
    }
}

fn place_of(dev: CUdevice) -> Outcome<i32> {
    if dev == CPU { Ok(CPU) } else { Ok(device(dev)? as i32) }
}

fn advise(ptr: CUdeviceptr, bytes: usize, advice: i32, place: i32) -> Outcome {
    let id = managed(ptr, bytes)?.id;
    let mut given = GIVEN.lock();
    let state = given.get_or_insert_default().entry(id).or_insert(NONE);
    match advice {
        1 | 2 => state.read_mostly = advice == 1,
        3 => state.preferred = place,
        4 => state.preferred = NOWHERE,
        5 | 6 => state.accessed_by[(place + 1) as usize] = advice == 5,
        _ => return Err(code::INVALID_VALUE),
    }
    Ok(())
}

fn prefetch(ptr: CUdeviceptr, bytes: usize, place: i32, on: Handle) -> Outcome {
    let on = stream::find(on)?;
    let id = managed(ptr, bytes)?.id;
    GIVEN.lock().get_or_insert_default().entry(id).or_insert(NONE).prefetched = place;
    on.submit(None).map(drop)
}

fn kind_of(place: i32) -> i32 {
    match place {
        NOWHERE => 0,
        CPU => ON_HOST as i32,
        _ => ON_DEVICE as i32,
    }
}

fn attribute(to: *mut c_void, room: usize, which: i32, of: &Allocation) -> Outcome {
    const ACCESSED_BY: i32 = 3;
    if to.is_null() || room == 0 || !room.is_multiple_of(4) || which != ACCESSED_BY && room != 4 {
        return Err(code::INVALID_VALUE);
    }
    let known = GIVEN.lock().as_ref().and_then(|g| g.get(&of.id)).copied().unwrap_or(NONE);
    let value = match which {
        1 => i32::from(known.read_mostly),
        2 => known.preferred,
        ACCESSED_BY => {
            let places = (0i32..).zip(known.accessed_by).filter(|(_, is)| *is).map(|(i, _)| i - 1);
            let places = places.chain(std::iter::repeat(NOWHERE)).take(room / 4);
            for (i, place) in places.enumerate() {
                // SAFETY: the program says that `room` bytes are there.
                unsafe { to.cast::<i32>().add(i).write(place) };
            }
            return Ok(());
        }
        4 => known.prefetched,
        5 => kind_of(known.preferred),
        6 => known.preferred.max(0),
        7 => kind_of(known.prefetched),
        8 => known.prefetched.max(0),
        _ => return Err(code::INVALID_VALUE),
    };
    out(to.cast(), value)
}

api! {
    fn cuMemAdvise(ptr: CUdeviceptr, bytes: usize, advice: i32, dev: CUdevice) {
        context::current()?;
        let place = if matches!(advice, 3 | 5 | 6) { place_of(dev)? } else { NOWHERE };
        advise(ptr, bytes, advice, place)
    }

    fn cuMemAdvise_v2(ptr: CUdeviceptr, bytes: usize, advice: i32, location: Location) {
        context::current()?;
        let place = if matches!(advice, 3 | 5 | 6) { place(location)? } else { NOWHERE };
        advise(ptr, bytes, advice, place)
    }

    fn cuMemPrefetchAsync | cuMemPrefetchAsync_ptsz(ptr: CUdeviceptr, bytes: usize, dev: CUdevice, on: Handle) {
        prefetch(ptr, bytes, place_of(dev)?, on)
    }

    fn cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz(ptr: CUdeviceptr, bytes: usize, location: Location, flags: u32, on: Handle) {
        if flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        prefetch(ptr, bytes, place(location)?, on)
    }

    fn cuMemRangeGetAttribute(to: *mut c_void, room: usize, which: i32, ptr: CUdeviceptr, bytes: usize) {
        context::current()?;
        attribute(to, room, which, &managed(ptr, bytes)?)
    }

    fn cuMemRangeGetAttributes(to: *mut *mut c_void, rooms: *mut usize, which: *mut i32, n: usize, ptr: CUdeviceptr, bytes: usize) {
        context::current()?;
        let of = managed(ptr, bytes)?;
        if to.is_null() || rooms.is_null() || which.is_null() || n == 0 {
            return Err(code::INVALID_VALUE);
        }
        for i in 0..n {
            // SAFETY: the program says that `n` entries are in every list.
            let (to, room, which) = unsafe { (*to.add(i), *rooms.add(i), *which.add(i)) };
            attribute(to, room, which, &of)?;
        }
        Ok(())
    }

    fn cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz(on: Handle, ptr: CUdeviceptr, _len: usize, flags: u32) {
        let on = stream::find(on)?;
        managed(ptr, 0)?;
        if ![1, 2, 4].contains(&flags) {
            return Err(code::INVALID_VALUE);
        }
        on.submit(None).map(drop)
    }
}
