//! The pinned arena: pieces cut into slots of one codec page.

use crate::codec::PAGE;
use crate::driver::{self, code};
use std::io;

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

/// Why the arena does not grow.
#[derive(Debug)]
pub enum Refusal {
    /// It has all it may have.
    Limit,
    /// The machine, or a control group, can spare no more.
    Machine,
    /// The system refused, or could not be asked.
    System(io::Error),
}

/// Grows in pieces, shrinks when a piece is empty.
#[derive(Debug)]
pub struct Arena {
    pieces: Vec<Option<Piece>>,
    piece_bytes: usize,
    limit: u64,
    bytes: u64,
    used: u64,
    /// Free slots that are not given back to the system.
    kept: usize,
}

impl Arena {
    /// An empty arena that may grow to `limit` bytes in pieces of `piece_bytes` (rounded to whole
    /// slots, at least one).
    pub fn new(limit: u64, piece_bytes: usize) -> Self {
        let mut arena =
            Arena { pieces: Vec::new(), piece_bytes: 0, limit: 0, bytes: 0, used: 0, kept: 0 };
        arena.set_limit(limit, piece_bytes);
        arena
    }

    /// Sets what [`Arena::new`] was given.
    pub fn set_limit(&mut self, limit: u64, piece_bytes: usize) {
        self.limit = limit;
        self.piece_bytes = (piece_bytes / SLOT).max(1) * SLOT;
    }

    /// What it may hold.
    pub fn limit(&self) -> u64 {
        self.limit
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
    /// Each piece is really there before the next is asked for, so that a limit is seen by this
    /// question and not by whoever kills those that pass it.
    pub fn make_room(
        &mut self,
        slots: usize,
        headroom: impl Fn() -> io::Result<u64>,
    ) -> Result<(), Refusal> {
        let mut free = self.free();
        while free < slots {
            let bytes = self.piece_bytes;
            if self.bytes + bytes as u64 > self.limit {
                return Err(Refusal::Limit);
            }
            if headroom().map_err(Refusal::System)? < bytes as u64 {
                return Err(Refusal::Machine);
            }
            let piece = Piece::new(bytes).map_err(Refusal::System)?;
            free += piece.free.len();
            self.bytes += bytes as u64;
            match self.pieces.iter().position(Option::is_none) {
                Some(hole) => self.pieces[hole] = Some(piece),
                None => self.pieces.push(Some(piece)),
            }
        }
        Ok(())
    }

    /// Slots that are there and hold nothing.
    pub fn free(&self) -> usize {
        self.pieces.iter().flatten().map(|p| p.free.len()).sum()
    }

    /// Free slots that releases leave in place from here on, as far as they are there.
    pub fn keep(&mut self, slots: usize) {
        self.kept = slots;
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
        let spare = (self.free() + 1).saturating_sub(self.kept);
        let Some(entry) = self.pieces.get_mut(slot.piece as usize) else { return };
        let Some(piece) = entry else { return };
        piece.free.push(slot.index);
        self.used -= SLOT as u64;
        if !alone && piece.free.len() * SLOT == piece.bytes && piece.free.len() <= spare {
            self.bytes -= piece.bytes as u64;
            *entry = None;
        }
    }

    /// Gives back every piece that holds nothing, once nothing is kept for anybody.
    pub fn trim(&mut self) {
        if self.used > 0 {
            return;
        }
        self.kept = 0;
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
    fn new(bytes: usize) -> io::Result<Piece> {
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
            return Err(io::Error::last_os_error());
        }
        for advice in [libc::MADV_DONTFORK, libc::MADV_DONTDUMP] {
            // SAFETY: advice on the mapping made above; a refusal changes nothing we rely on.
            unsafe { libc::madvise(base, bytes, advice) };
        }
        if let Err(e) = populate(base.cast(), bytes) {
            // SAFETY: the mapping made above, known to nobody else.
            unsafe { libc::munmap(base, bytes) };
            return Err(e);
        }
        // Pinned memory copies faster; without it (RLIMIT_MEMLOCK) the arena still works.
        // SAFETY: the mapping is ours and stays until Drop unregisters it.
        let registered = driver::api().is_some_and(|api| unsafe {
            (api.cuMemHostRegister_v2)(base, bytes, 0) == code::SUCCESS
        });
        let free = (0..(bytes / SLOT) as u32).rev().collect();
        Ok(Piece { base: base.cast(), bytes, registered, free })
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

/// Makes every page of a new mapping real.
fn populate(base: *mut u8, bytes: usize) -> io::Result<()> {
    const POPULATE_WRITE: i32 = 23;
    // SAFETY: advice on a mapping of the caller's.
    if unsafe { libc::madvise(base.cast(), bytes, POPULATE_WRITE) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // An older kernel, or one that must not be asked: by hand.
        e if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EPERM | libc::EINTR)) => {
            for at in (0..bytes).step_by(4096) {
                // SAFETY: inside the mapping, which nobody else uses yet; volatile, so that it
                // happens although zero is there already.
                unsafe { base.add(at).write_volatile(0) };
            }
            Ok(())
        }
        e => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_shrinks() {
        let mut arena = Arena::new(4 * SLOT as u64, 2 * SLOT);
        arena.make_room(4, || Ok(u64::MAX)).expect("room");
        assert!(matches!(arena.make_room(5, || Ok(u64::MAX)), Err(Refusal::Limit)));
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
    fn what_is_kept_stays() {
        let mut arena = Arena::new(u64::MAX, SLOT);
        arena.make_room(3, || Ok(u64::MAX)).expect("room");
        let slots: Vec<_> = (0..3).map(|_| arena.store(&[7]).expect("room")).collect();
        arena.keep(2);
        for slot in slots {
            arena.release(slot);
        }
        assert_eq!(arena.bytes(), 2 * SLOT as u64);
        arena.trim();
        assert_eq!(arena.bytes(), 0);
    }

    #[test]
    fn headroom_is_asked_before_each_piece() {
        let mut arena = Arena::new(u64::MAX, SLOT);
        let too_little = arena.make_room(1, || Ok(SLOT as u64 - 1));
        assert!(matches!(too_little, Err(Refusal::Machine)), "{too_little:?}");
        let unknown = arena.make_room(1, || Err(io::ErrorKind::Other.into()));
        assert!(matches!(unknown, Err(Refusal::System(_))), "{unknown:?}");
        assert_eq!(arena.bytes(), 0);
    }
}
