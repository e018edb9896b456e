//! The address space of the cards: reservations and what is mapped in them.
//!
//! A device address is a host address of the same value: reserved means PROT_NONE, mapped means a
//! shared mapping of the card's file, and what may not be accessed faults for real.

use crate::abi::{CUdeviceptr, Outcome, code, end};
use crate::card::{self, PAGE};
use crate::memory::next_id;
use crate::settings;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Physical memory; freed when the last handle and mapping are gone.
#[derive(Debug)]
pub struct Physical {
    /// No other piece has it.
    pub id: u64,
    pub card: usize,
    /// Made to be exported.
    pub shareable: bool,
    at: u64,
    pub bytes: u64,
}

impl Physical {
    /// Takes memory of a card and fills it with a pattern nobody should rely on.
    pub fn new(card: usize, bytes: u64, shareable: bool) -> Outcome<Arc<Physical>> {
        let bytes = bytes.checked_next_multiple_of(PAGE).ok_or(code::OUT_OF_MEMORY)?;
        let cards = card::all();
        let at = cards.get(card).ok_or(code::INVALID_DEVICE)?.take(bytes)?;
        let physical = Physical { id: next_id(), card, shareable, at, bytes };
        if settings::get().fill {
            physical.fill();
        }
        Ok(Arc::new(physical))
    }

    fn fill(&self) {
        let len = self.bytes as usize;
        // SAFETY: a fresh mapping of a range of the file that is ours alone, removed again.
        unsafe {
            let fd = card::all()[self.card].fd;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let at =
                libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd, self.at as i64);
            if at != libc::MAP_FAILED {
                std::ptr::write_bytes(at.cast::<u8>(), 0xA5, len);
                libc::munmap(at, len);
            }
        }
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        card::all()[self.card].give_back(self.at, self.bytes);
    }
}

#[derive(Debug)]
pub struct Mapping {
    pub bytes: u64,
    pub physical: Arc<Physical>,
    /// Devices that may access it, one bit each.
    pub access: u32,
    /// No other mapping has it.
    pub id: u64,
    /// The host uses it too, so strict mode does not hide it.
    host: bool,
}

#[derive(Debug)]
struct Reservation {
    bytes: u64,
    mappings: BTreeMap<CUdeviceptr, Mapping>,
    /// Made by an allocation call, not by the program's own reservation.
    internal: bool,
}

impl Reservation {
    /// The mappings of a range inside, which they must fill from its first byte to its last.
    fn whole_mappings(&self, at: CUdeviceptr, bytes: u64) -> Outcome<Vec<(CUdeviceptr, u64)>> {
        let mut next = at;
        let mut found = Vec::new();
        for (&start, mapping) in self.mappings.range(at..at + bytes) {
            if start != next {
                return Err(code::INVALID_VALUE);
            }
            next = start + mapping.bytes;
            found.push((start, mapping.bytes));
        }
        if bytes > 0 && next == at + bytes { Ok(found) } else { Err(code::INVALID_VALUE) }
    }
}

#[derive(Debug, Default)]
pub struct Space {
    reservations: BTreeMap<CUdeviceptr, Reservation>,
    /// Ranges of freed allocations, kept out of use for a while.
    quarantine: std::collections::VecDeque<(CUdeviceptr, u64)>,
    /// Strict mode: device work is running, memory is open.
    open: bool,
}

/// The one address space.
pub static SPACE: Mutex<Space> = Mutex::new(Space {
    reservations: BTreeMap::new(),
    quarantine: std::collections::VecDeque::new(),
    open: false,
});

const NONE: i32 = libc::PROT_NONE;
const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn reserve_at(hint: CUdeviceptr, bytes: u64, align: u64, fixed: bool) -> Option<CUdeviceptr> {
    let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    if fixed {
        flags |= libc::MAP_FIXED_NOREPLACE;
    }
    let span = if fixed { bytes } else { bytes.checked_add(align)? };
    // SAFETY: never replaces an existing mapping (no MAP_FIXED).
    let got = unsafe { libc::mmap(hint as *mut _, span as usize, NONE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return None;
    }
    let got = got as u64;
    if fixed {
        if got == hint {
            return Some(got);
        }
        // SAFETY: what was just mapped, at another place than asked.
        unsafe { libc::munmap(got as *mut _, span as usize) };
        return None;
    }
    let start = got.next_multiple_of(align);
    // SAFETY: trims the surplus of the mapping made above.
    unsafe {
        if start > got {
            libc::munmap(got as *mut _, (start - got) as usize);
        }
        let surplus = got + span - (start + bytes);
        if surplus > 0 {
            libc::munmap((start + bytes) as *mut _, surplus as usize);
        }
    }
    Some(start)
}

fn back_to_none(at: CUdeviceptr, bytes: u64) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: replaces a mapping of this address space by an inaccessible one.
    unsafe { libc::mmap(at as *mut _, bytes as usize, NONE, flags, -1, 0) };
}

impl Space {
    /// Reserves addresses.
    pub fn reserve(
        &mut self,
        bytes: u64,
        align: u64,
        hint: CUdeviceptr,
        internal: bool,
    ) -> Outcome<CUdeviceptr> {
        let align = align.max(PAGE);
        let hinted =
            (hint != 0 && hint.is_multiple_of(align)).then(|| reserve_at(hint, bytes, align, true));
        let at = hinted
            .flatten()
            .or_else(|| reserve_at(0, bytes, align, false))
            .ok_or(code::OUT_OF_MEMORY)?;
        self.reservations.insert(at, Reservation { bytes, mappings: BTreeMap::new(), internal });
        Ok(at)
    }

    /// Gives a whole reservation back.
    pub fn unreserve(&mut self, at: CUdeviceptr, bytes: u64, internal: bool) -> Outcome {
        let fits =
            |r: &Reservation| r.bytes == bytes && r.mappings.is_empty() && r.internal == internal;
        if !self.reservations.get(&at).is_some_and(fits) {
            return Err(code::INVALID_VALUE);
        }
        self.reservations.remove(&at);
        if internal {
            self.quarantine.push_back((at, bytes));
            if self.quarantine.len() < 256 {
                return Ok(());
            }
        }
        let gone = if internal { self.quarantine.pop_front() } else { Some((at, bytes)) };
        if let Some((at, bytes)) = gone {
            // SAFETY: a range that was reserved by us and is in no table any more.
            unsafe { libc::munmap(at as *mut _, bytes as usize) };
        }
        Ok(())
    }

    fn containing(&mut self, at: CUdeviceptr, bytes: u64) -> Option<&mut Reservation> {
        let (&start, reservation) = self.reservations.range_mut(..=at).next_back()?;
        (end(at, bytes).ok()? <= start + reservation.bytes).then_some(reservation)
    }

    /// Maps physical memory; nobody may access it yet.
    pub fn map(
        &mut self,
        at: CUdeviceptr,
        bytes: u64,
        physical: Arc<Physical>,
        host: bool,
    ) -> Outcome {
        if bytes != physical.bytes || bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        let reservation = self.containing(at, bytes).ok_or(code::INVALID_VALUE)?;
        let taken = reservation.mappings.range(..at + bytes).next_back();
        if taken.is_some_and(|(&start, m)| start + m.bytes > at) {
            return Err(code::INVALID_VALUE);
        }
        reservation
            .mappings
            .insert(at, Mapping { bytes, physical, access: 0, id: next_id(), host });
        Ok(())
    }

    /// Removes the mappings of a range that consists of whole ones.
    pub fn unmap(&mut self, at: CUdeviceptr, bytes: u64) -> Outcome {
        let reservation = self.containing(at, bytes).ok_or(code::INVALID_VALUE)?;
        for (start, bytes) in reservation.whole_mappings(at, bytes)? {
            reservation.mappings.remove(&start);
            back_to_none(start, bytes);
        }
        Ok(())
    }

    /// Sets who may access a range that consists of whole mappings: bits of `allow` on, bits of
    /// `forbid` off.
    pub fn set_access(&mut self, at: CUdeviceptr, bytes: u64, allow: u32, forbid: u32) -> Outcome {
        let visible = !settings::get().strict || self.open;
        let reservation = self.containing(at, bytes).ok_or(code::INVALID_VALUE)?;
        reservation.whole_mappings(at, bytes)?;
        for (&start, mapping) in reservation.mappings.range_mut(at..at + bytes) {
            let before = mapping.access;
            mapping.access = mapping.access & !forbid | allow;
            if before == 0 && mapping.access != 0 {
                attach(start, mapping, if visible || mapping.host { BOTH } else { NONE })?;
            } else if before != 0 && mapping.access == 0 {
                back_to_none(start, mapping.bytes);
            }
        }
        Ok(())
    }

    /// The mapping that contains an address, and its first byte.
    pub fn mapping(&self, at: CUdeviceptr) -> Option<(CUdeviceptr, &Mapping)> {
        let (&start, reservation) = self.reservations.range(..=at).next_back()?;
        if at >= start + reservation.bytes {
            return None;
        }
        let (&start, mapping) = reservation.mappings.range(..=at).next_back()?;
        (at < start + mapping.bytes).then_some((start, mapping))
    }

    /// The program's or an internal reservation around an address.
    pub fn reservation(&self, at: CUdeviceptr) -> Option<(CUdeviceptr, u64, bool)> {
        let (&start, r) = self.reservations.range(..=at).next_back()?;
        (at < start + r.bytes).then_some((start, r.bytes, r.internal))
    }

    /// Whether every byte of a range may be accessed by some device.
    pub fn accessible(&self, at: CUdeviceptr, bytes: u64) -> bool {
        let Ok(end) = end(at, bytes.max(1)) else { return false };
        let mut now = at;
        while now < end {
            match self.mapping(now) {
                Some((start, mapping)) if mapping.access != 0 => now = start + mapping.bytes,
                _ => return false,
            }
        }
        true
    }

    /// Reservations made by the program itself, and the card of every mapping in them.
    pub fn programs_own(&self) -> (usize, Vec<usize>) {
        let own = self.reservations.values().filter(|r| !r.internal);
        own.fold((0, Vec::new()), |(n, mut cards), one| {
            cards.extend(one.mappings.values().map(|m| m.physical.card));
            (n + 1, cards)
        })
    }

    /// Strict mode: shows or hides all accessible memory.
    pub fn show(&mut self, visible: bool) {
        self.open = visible;
        for reservation in self.reservations.values() {
            for (&start, mapping) in &reservation.mappings {
                if mapping.access != 0 && !mapping.host {
                    let prot = if visible { BOTH } else { NONE };
                    // SAFETY: changes the protection of a mapping of this space.
                    unsafe { libc::mprotect(start as *mut _, mapping.bytes as usize, prot) };
                }
            }
        }
    }
}

fn attach(at: CUdeviceptr, mapping: &Mapping, prot: i32) -> Outcome {
    let fd = card::all()[mapping.physical.card].fd;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: replaces reserved addresses of this space by the file's range of this mapping.
    let got = unsafe {
        libc::mmap(
            at as *mut _,
            mapping.bytes as usize,
            prot,
            flags,
            fd,
            mapping.physical.at as i64,
        )
    };
    if got == libc::MAP_FAILED { Err(code::OUT_OF_MEMORY) } else { Ok(()) }
}
