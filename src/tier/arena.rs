//! The pinned arena: pieces cut into slots of one codec page.

use crate::codec::PAGE;
use crate::driver::{self, code};

/// Bytes of one slot.
pub const SLOT: usize = PAGE;

/// The place of one stored page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    piece: u32,
    index: u32,
}

#[derive(Debug)]
struct Piece {
    base: *mut u8,
    bytes: usize,
    registered: bool,
    free: Vec<u32>,
}

// SAFETY: a piece is private memory owned by the arena that holds it; only its owner, behind a
// lock, hands out access.
unsafe impl Send for Piece {}

/// Grows in pieces, shrinks when a piece is empty.
#[derive(Debug)]
pub struct Arena {
    pieces: Vec<Option<Piece>>,
    piece_bytes: usize,
    limit: u64,
    bytes: u64,
    used: u64,
}

impl Arena {
    /// An empty arena that may grow to `limit` bytes in pieces of `piece_bytes` (rounded to whole
    /// slots, at least one).
    pub fn new(limit: u64, piece_bytes: usize) -> Self {
        let piece_bytes = (piece_bytes / SLOT).max(1) * SLOT;
        Arena { pieces: Vec::new(), piece_bytes, limit, bytes: 0, used: 0 }
    }

    /// Host bytes held, used or not.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Host bytes in slots that hold a page.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Makes sure `slots` more can be taken; `headroom` tells what the machine can spare now.
    /// False when the limit, the machine or the kernel says no.
    pub fn make_room(&mut self, slots: usize, headroom: impl Fn() -> u64) -> bool {
        let mut free: usize = self.pieces.iter().flatten().map(|p| p.free.len()).sum();
        while free < slots {
            let bytes = self.piece_bytes;
            if self.bytes + bytes as u64 > self.limit || headroom() < bytes as u64 {
                return false;
            }
            let Some(piece) = Piece::new(bytes) else { return false };
            free += piece.free.len();
            self.bytes += bytes as u64;
            match self.pieces.iter().position(Option::is_none) {
                Some(hole) => self.pieces[hole] = Some(piece),
                None => self.pieces.push(Some(piece)),
            }
        }
        true
    }

    /// Stores up to one page; `None` when no slot is free.
    pub fn store(&mut self, bytes: &[u8]) -> Option<Slot> {
        debug_assert!(bytes.len() <= SLOT);
        for (i, piece) in self.pieces.iter_mut().enumerate() {
            let Some(piece) = piece else { continue };
            if let Some(index) = piece.free.pop() {
                piece.slot_mut(index)[..bytes.len()].copy_from_slice(bytes);
                self.used += SLOT as u64;
                return Some(Slot { piece: i as u32, index });
            }
        }
        None
    }

    /// The first `len` bytes of a stored page.
    pub fn load(&self, slot: Slot, len: usize) -> Option<&[u8]> {
        self.pieces.get(slot.piece as usize)?.as_ref()?.slot(slot.index).get(..len)
    }

    /// Frees one slot; an empty piece goes back to the system unless it is the only one.
    pub fn release(&mut self, slot: Slot) {
        let alone = self.pieces.iter().flatten().count() == 1;
        let Some(entry) = self.pieces.get_mut(slot.piece as usize) else { return };
        let Some(piece) = entry else { return };
        piece.free.push(slot.index);
        self.used -= SLOT as u64;
        if !alone && piece.free.len() * SLOT == piece.bytes {
            self.bytes -= piece.bytes as u64;
            *entry = None;
        }
    }

    /// Gives back every piece that holds nothing.
    pub fn trim(&mut self) {
        for entry in &mut self.pieces {
            if let Some(piece) = entry
                && piece.free.len() * SLOT == piece.bytes
            {
                self.bytes -= piece.bytes as u64;
                *entry = None;
            }
        }
    }
}

impl Piece {
    fn new(bytes: usize) -> Option<Piece> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing else.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        for advice in [libc::MADV_DONTFORK, libc::MADV_DONTDUMP] {
            // SAFETY: advice on the mapping made above; a refusal changes nothing we rely on.
            unsafe { libc::madvise(base, bytes, advice) };
        }
        // Pinned memory copies faster; without it (RLIMIT_MEMLOCK) the arena still works.
        // SAFETY: the mapping is ours and stays until Drop unregisters it.
        let registered = driver::api().is_some_and(|api| unsafe {
            (api.cuMemHostRegister_v2)(base, bytes, 0) == code::SUCCESS
        });
        let free = (0..(bytes / SLOT) as u32).rev().collect();
        Some(Piece { base: base.cast(), bytes, registered, free })
    }

    fn slot(&self, index: u32) -> &[u8] {
        debug_assert!((index as usize + 1) * SLOT <= self.bytes);
        // SAFETY: slots are inside the mapping, which lives as long as self; bytes are plain.
        unsafe { std::slice::from_raw_parts(self.base.add(index as usize * SLOT), SLOT) }
    }

    fn slot_mut(&mut self, index: u32) -> &mut [u8] {
        debug_assert!((index as usize + 1) * SLOT <= self.bytes);
        // SAFETY: as in `slot`, and &mut self makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(index as usize * SLOT), SLOT) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.registered
            && let Some(api) = driver::api()
        {
            // SAFETY: registered in `new` with this address. A failure (the context is gone)
            // leaves nothing to undo.
            unsafe { (api.cuMemHostUnregister)(self.base.cast()) };
        }
        // SAFETY: mapped in `new` with this size; nobody holds a slice any more.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_shrinks() {
        let mut arena = Arena::new(4 * SLOT as u64, 2 * SLOT);
        assert!(arena.make_room(4, || u64::MAX));
        assert!(!arena.make_room(5, || u64::MAX), "limit");
        let page: Vec<u8> = (0..SLOT).map(|i| i as u8).collect();
        let slots: Vec<_> = (0..4).map(|_| arena.store(&page).expect("room")).collect();
        assert_eq!(arena.store(&page), None);
        assert_eq!(arena.used(), 4 * SLOT as u64);
        assert_eq!(arena.load(slots[3], 100), Some(&page[..100]));
        for slot in slots {
            arena.release(slot);
        }
        assert_eq!(arena.used(), 0);
        assert_eq!(arena.bytes(), 2 * SLOT as u64, "one piece is kept warm");
        arena.trim();
        assert_eq!(arena.bytes(), 0);
    }

    #[test]
    fn headroom_is_asked_before_each_piece() {
        let mut arena = Arena::new(u64::MAX, SLOT);
        assert!(!arena.make_room(1, || SLOT as u64 - 1));
        assert_eq!(arena.bytes(), 0);
    }
}
