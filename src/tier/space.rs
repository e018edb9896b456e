//! Which parts of a tier's pieces are taken: pure bookkeeping, the same for host and device.
#![forbid(unsafe_code)]

use crate::codec::PAGE;
use crate::heap::RangeAllocator;

/// Bytes of the unit that places are counted in.
pub const UNIT: usize = 256;
/// Units of a whole page.
const PAGE_UNITS: u64 = (PAGE / UNIT) as u64;

/// Where something is kept: a piece and a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the piece.
    pub piece: u32,
    /// First unit in it.
    unit: u32,
    units: u32,
}

impl Place {
    /// Byte offset in its piece.
    pub fn offset(self) -> usize {
        self.unit as usize * UNIT
    }

    /// Bytes that are taken.
    pub fn bytes(self) -> usize {
        self.units as usize * UNIT
    }
}

/// The pieces of a tier; they come and go.
#[derive(Debug, Default)]
pub struct Space {
    pieces: Vec<Option<Piece>>,
    used: u64,
}

#[derive(Debug)]
struct Piece {
    free: RangeAllocator,
    units: u64,
}

impl Space {
    /// Takes room for `bytes` in the first piece that has it, so that late pieces become empty.
    pub fn take(&mut self, bytes: usize) -> Option<Place> {
        self.take_but(bytes, |_| false)
    }

    /// As [`Space::take`], not in pieces that are to be `left`.
    pub fn take_but(&mut self, bytes: usize, left: impl Fn(u32) -> bool) -> Option<Place> {
        let units = bytes.div_ceil(UNIT) as u64;
        for (i, piece) in (0u32..).zip(&mut self.pieces) {
            let Some(piece) = piece.as_mut().filter(|p| p.free.free() >= units) else { continue };
            if left(i) {
                continue;
            }
            if let Some(unit) = piece.free.take(units) {
                self.used += units;
                return Some(Place { piece: i, unit: unit as u32, units: units as u32 });
            }
        }
        None
    }

    /// Gives a place back; true if its piece holds nothing now.
    pub fn release(&mut self, place: Place) -> bool {
        let Some(Some(piece)) = self.pieces.get_mut(place.piece as usize) else { return false };
        piece.free.release(u64::from(place.unit), u64::from(place.units));
        self.used -= u64::from(place.units);
        piece.free.free() == piece.units
    }

    /// Adds an empty piece of `bytes`; its index.
    pub fn add(&mut self, bytes: usize) -> u32 {
        let units = (bytes / UNIT) as u64;
        let piece = Some(Piece { free: RangeAllocator::new(units), units });
        match self.pieces.iter().position(Option::is_none) {
            Some(hole) => {
                self.pieces[hole] = piece;
                hole as u32
            }
            None => {
                self.pieces.push(piece);
                (self.pieces.len() - 1) as u32
            }
        }
    }

    /// Takes an empty piece away.
    pub fn remove(&mut self, piece: u32) {
        debug_assert_eq!(self.live(piece), 0);
        if let Some(entry) = self.pieces.get_mut(piece as usize) {
            *entry = None;
        }
    }

    /// The index that [`Space::add`] would use next.
    pub fn next(&self) -> u32 {
        self.pieces.iter().position(Option::is_none).unwrap_or(self.pieces.len()) as u32
    }

    /// The pieces there are.
    pub fn pieces(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.pieces).filter(|(_, p)| p.is_some()).map(|(i, _)| i)
    }

    /// Bytes of a piece that are taken.
    pub fn live(&self, piece: u32) -> u64 {
        let piece = self.pieces.get(piece as usize).and_then(Option::as_ref);
        piece.map_or(0, |p| (p.units - p.free.free()) * UNIT as u64)
    }

    /// Bytes of a piece.
    pub fn size(&self, piece: u32) -> u64 {
        let piece = self.pieces.get(piece as usize).and_then(Option::as_ref);
        piece.map_or(0, |p| p.units * UNIT as u64)
    }

    /// Bytes of all pieces that are taken.
    pub fn used(&self) -> u64 {
        self.used * UNIT as u64
    }

    /// Bytes of all pieces that are not taken, in parts of any size.
    pub fn free(&self) -> u64 {
        self.pieces.iter().flatten().map(|p| p.free.free() * UNIT as u64).sum()
    }

    /// How many whole pages could still be taken.
    pub fn pages(&self) -> usize {
        let ranges = self.pieces.iter().flatten().flat_map(|p| p.free.iter());
        ranges.map(|(_, units)| (units / PAGE_UNITS) as usize).sum()
    }

    /// How many whole pages a piece of so many bytes has room for.
    pub fn pages_in(bytes: usize) -> usize {
        bytes / PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Places never overlap, and what is released can be taken again.
        #[test]
        fn places_are_apart(steps in proptest::collection::vec((1usize..70_000, any::<u8>()), 1..200)) {
            let mut space = Space::default();
            let mut held: Vec<Place> = Vec::new();
            for (bytes, choice) in steps {
                if choice < 80 && !held.is_empty() {
                    space.release(held.swap_remove(usize::from(choice) % held.len()));
                    continue;
                }
                let place = space.take(bytes).unwrap_or_else(|| {
                    space.add(4 * PAGE);
                    space.take(bytes).expect("a piece of four pages")
                });
                prop_assert!(place.bytes() >= bytes && place.offset() + place.bytes() <= 4 * PAGE);
                for other in held.iter().filter(|o| o.piece == place.piece) {
                    let apart = other.offset() + other.bytes() <= place.offset()
                        || place.offset() + place.bytes() <= other.offset();
                    prop_assert!(apart, "{place:?} and {other:?}");
                }
                held.push(place);
            }
            let sum: usize = held.iter().map(|p| p.bytes()).sum();
            prop_assert_eq!(space.used(), sum as u64);
            held.into_iter().for_each(|place| { space.release(place); });
            prop_assert_eq!(space.used(), 0);
            prop_assert!(space.pieces().all(|p| space.live(p) == 0));
        }
    }

    #[test]
    fn an_emptied_piece_can_go_and_its_number_comes_back() {
        let mut space = Space::default();
        space.add(PAGE);
        space.add(PAGE);
        let (a, b) = (space.take(PAGE).expect("room"), space.take(PAGE).expect("room"));
        assert_eq!((a.piece, b.piece, space.pages()), (0, 1, 0));
        assert!(space.release(a));
        space.remove(0);
        assert_eq!(space.pieces().collect::<Vec<_>>(), [1]);
        assert_eq!(space.next(), 0);
        assert_eq!(space.add(PAGE), 0);
    }
}
