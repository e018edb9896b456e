//! The pinned arena: pieces of host memory, cut as the pages need it.

use super::space::{Place, Space};
use crate::codec::PAGE;
use crate::driver::{self, code};
use std::io;

#[derive(Debug)]
struct Piece {
    base: *mut u8,
    bytes: usize,
    registered: bool,
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
    space: Space,
    piece_bytes: usize,
    limit: u64,
    bytes: u64,
    /// Whole pages for which releases leave room.
    kept: usize,
}

impl Arena {
    /// An empty arena that may grow to `limit` bytes in pieces of `piece_bytes` (rounded to whole
    /// pages, at least one).
    pub fn new(limit: u64, piece_bytes: usize) -> Self {
        let mut arena = Arena {
            pieces: Vec::new(),
            space: Space::default(),
            piece_bytes: 0,
            limit: 0,
            bytes: 0,
            kept: 0,
        };
        arena.set_limit(limit, piece_bytes);
        arena
    }

    /// Sets what [`Arena::new`] was given.
    pub fn set_limit(&mut self, limit: u64, piece_bytes: usize) {
        self.limit = limit;
        self.piece_bytes = (piece_bytes / PAGE).max(1) * PAGE;
    }

    /// What it may hold.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Host bytes held, used or not.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Host bytes that hold something.
    pub fn used(&self) -> u64 {
        self.space.used()
    }

    /// Makes sure that `pages` whole pages more can be taken; `headroom` tells what the machine can
    /// spare now. Each piece is really there before the next is asked for, so that a limit is seen
    /// by this question and not by whoever kills those that pass it.
    pub fn make_room(
        &mut self,
        pages: usize,
        headroom: impl Fn() -> io::Result<u64>,
    ) -> Result<(), Refusal> {
        let mut free = self.space.pages();
        while free < pages {
            let bytes = self.piece_bytes;
            if self.bytes + bytes as u64 > self.limit {
                return Err(Refusal::Limit);
            }
            if headroom().map_err(Refusal::System)? < bytes as u64 {
                return Err(Refusal::Machine);
            }
            let piece = Piece::new(bytes).map_err(Refusal::System)?;
            free += Space::pages_in(bytes);
            self.bytes += bytes as u64;
            let at = self.space.add(bytes) as usize;
            if at == self.pieces.len() {
                self.pieces.push(None);
            }
            self.pieces[at] = Some(piece);
        }
        Ok(())
    }

    /// Whole pages for which releases leave room from here on, as far as it is there.
    pub fn keep(&mut self, pages: usize) {
        self.kept = pages;
    }

    /// Takes room for `bytes`; `None` where there is none that is in one part.
    pub fn take(&mut self, bytes: usize) -> Option<Place> {
        self.space.take(bytes)
    }

    /// Stores a few bytes.
    pub fn store(&mut self, bytes: &[u8]) -> Option<Place> {
        let place = self.take(bytes.len())?;
        self.pieces[place.piece as usize].as_mut()?.part_mut(place)[..bytes.len()]
            .copy_from_slice(bytes);
        Some(place)
    }

    /// The first `len` bytes of what is stored.
    pub fn load(&self, place: Place, len: usize) -> Option<&[u8]> {
        self.pieces.get(place.piece as usize)?.as_ref()?.part(place).get(..len)
    }

    /// The first bytes of several places, to be written all at once.
    ///
    /// # Panics
    /// If two of them overlap: each must have been taken and not yet released.
    pub fn parts_mut(&mut self, places: &[(Place, usize)]) -> Vec<&mut [u8]> {
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(places.len());
        let mut out = Vec::with_capacity(places.len());
        for &(place, len) in places {
            let Some(Some(piece)) = self.pieces.get(place.piece as usize) else { continue };
            assert!(len <= place.bytes() && place.offset() + place.bytes() <= piece.bytes);
            // SAFETY: inside the mapping, as asserted.
            let first = unsafe { piece.base.add(place.offset()) };
            order.push((first as usize, place.bytes()));
            out.push((first, len));
        }
        order.sort_unstable();
        assert!(order.is_sorted_by(|a, b| a.0 + a.1 <= b.0), "two places are one");
        let slice = |(first, len): (*mut u8, usize)| {
            // SAFETY: inside a mapping that lives as long as self, which is borrowed mutably; no
            // two of the slices overlap, as asserted.
            unsafe { std::slice::from_raw_parts_mut(first, len) }
        };
        out.into_iter().map(slice).collect()
    }

    /// Frees a place; an empty piece goes back to the system unless it is the only one.
    pub fn release(&mut self, place: Place) {
        let empty = self.space.release(place);
        let alone = self.space.pieces().count() == 1;
        let Some(entry) = self.pieces.get_mut(place.piece as usize) else { return };
        let Some(piece) = entry else { return };
        if empty && !alone && self.space.pages() >= self.kept + Space::pages_in(piece.bytes) {
            self.bytes -= piece.bytes as u64;
            self.space.remove(place.piece);
            *entry = None;
        }
    }

    /// Gives back every piece that holds nothing, once nothing is kept for anybody.
    pub fn trim(&mut self) {
        if self.used() > 0 {
            return;
        }
        self.kept = 0;
        for (i, entry) in (0u32..).zip(&mut self.pieces) {
            if let Some(piece) = entry {
                self.bytes -= piece.bytes as u64;
                self.space.remove(i);
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
        Ok(Piece { base: base.cast(), bytes, registered })
    }

    fn part(&self, place: Place) -> &[u8] {
        assert!(place.offset() + place.bytes() <= self.bytes);
        // SAFETY: inside the mapping, which lives as long as self; bytes are plain.
        unsafe { std::slice::from_raw_parts(self.base.add(place.offset()), place.bytes()) }
    }

    fn part_mut(&mut self, place: Place) -> &mut [u8] {
        assert!(place.offset() + place.bytes() <= self.bytes);
        // SAFETY: as in `part`, and &mut self makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(place.offset()), place.bytes()) }
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
        let mut arena = Arena::new(4 * PAGE as u64, 2 * PAGE);
        arena.make_room(4, || Ok(u64::MAX)).expect("room");
        assert!(matches!(arena.make_room(5, || Ok(u64::MAX)), Err(Refusal::Limit)));
        let page: Vec<u8> = (0..PAGE).map(|i| i as u8).collect();
        let places: Vec<_> = (0..4).map(|_| arena.store(&page).expect("room")).collect();
        assert_eq!(arena.store(&page), None);
        assert_eq!(arena.used(), 4 * PAGE as u64);
        assert_eq!(arena.load(places[3], 100), Some(&page[..100]));
        for place in places {
            arena.release(place);
        }
        assert_eq!(arena.used(), 0);
        assert_eq!(arena.bytes(), 2 * PAGE as u64, "one piece is kept warm");
        arena.trim();
        assert_eq!(arena.bytes(), 0);
    }

    #[test]
    fn small_pages_share_a_piece() {
        let mut arena = Arena::new(PAGE as u64, PAGE);
        arena.make_room(1, || Ok(u64::MAX)).expect("room");
        let places: Vec<_> = (0..4u8).map(|i| arena.store(&[i; 12_000]).expect("room")).collect();
        let wanted: Vec<_> = places.iter().map(|&place| (place, 12_000)).collect();
        for (i, part) in arena.parts_mut(&wanted).into_iter().enumerate() {
            assert_eq!(part[11_999], i as u8);
            part[0] = 77;
        }
        assert!(places.iter().all(|&p| arena.load(p, 2).is_some_and(|b| b[0] == 77)));
    }

    #[test]
    #[should_panic(expected = "two places are one")]
    fn one_place_is_not_handed_out_twice() {
        let mut arena = Arena::new(PAGE as u64, PAGE);
        arena.make_room(1, || Ok(u64::MAX)).expect("room");
        let place = arena.store(&[1; 1000]).expect("room");
        arena.parts_mut(&[(place, 1000), (place, 1000)]);
    }

    #[test]
    fn what_is_kept_stays() {
        let mut arena = Arena::new(u64::MAX, PAGE);
        arena.make_room(3, || Ok(u64::MAX)).expect("room");
        let places: Vec<_> = (0..3).map(|_| arena.store(&[7; PAGE]).expect("room")).collect();
        arena.keep(2);
        for place in places {
            arena.release(place);
        }
        assert_eq!(arena.bytes(), 2 * PAGE as u64);
        arena.trim();
        assert_eq!(arena.bytes(), 0);
    }

    #[test]
    fn headroom_is_asked_before_each_piece() {
        let mut arena = Arena::new(u64::MAX, PAGE);
        let too_little = arena.make_room(1, || Ok(PAGE as u64 - 1));
        assert!(matches!(too_little, Err(Refusal::Machine)), "{too_little:?}");
        let unknown = arena.make_room(1, || Err(io::ErrorKind::Other.into()));
        assert!(matches!(unknown, Err(Refusal::System(_))), "{unknown:?}");
        assert_eq!(arena.bytes(), 0);
    }
}
