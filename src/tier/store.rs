//! The device store: segments of device memory for coded pages, behind one range of addresses that
//! the device's scratch shares, so that one base reaches all of it.
//!
//! Owns: which addresses are whose. Never: physical memory under the limit; whoever calls maps and
//! unmaps.
#![forbid(unsafe_code)]

use super::space::{Place, Space};
use crate::vmm::Handle;

/// One device's.
#[derive(Debug, Default)]
pub struct Store {
    /// First address; 0 while nothing is reserved.
    base: u64,
    /// Addresses for scratch, before the segments.
    front: u64,
    /// Addresses of a segment; it may have less memory.
    stride: u64,
    /// How many segments there are addresses for.
    most: u32,
    space: Space,
    /// What backs each segment.
    backing: Vec<Vec<Handle>>,
    /// Bytes of all segments.
    bytes: u64,
    scratch: Vec<Handle>,
}

impl Store {
    /// Takes the reserved `base`: `front` bytes of scratch, then `most` segments of `stride` bytes.
    pub fn open(&mut self, base: u64, front: u64, stride: u64, most: u32) {
        *self = Store { base, front, stride, most, ..Store::default() };
    }

    /// First address; also that of the scratch. `None` while nothing is reserved.
    pub fn base(&self) -> Option<u64> {
        (self.base != 0).then_some(self.base)
    }

    /// Bytes in segments, used or not.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that hold something.
    pub fn used(&self) -> u64 {
        self.space.used()
    }

    /// Bytes that hold nothing, in parts of any size.
    pub fn free(&self) -> u64 {
        self.space.free()
    }

    /// The most memory of a segment.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// Where the next segment would begin; `None` when there are no addresses for one.
    pub fn next(&self) -> Option<u64> {
        let next = self.space.next();
        (self.base != 0 && next < self.most).then(|| self.start(next))
    }

    fn start(&self, piece: u32) -> u64 {
        self.base + self.front + u64::from(piece) * self.stride
    }

    /// Adds the segment at [`Store::next`], which is mapped to `handles` of `bytes` in all.
    pub fn add(&mut self, handles: Vec<Handle>, bytes: u64) {
        let piece = self.space.add(bytes as usize) as usize;
        if piece == self.backing.len() {
            self.backing.push(Vec::new());
        }
        self.backing[piece] = handles;
        self.bytes += bytes;
    }

    /// An empty segment: its number, first address and bytes.
    pub fn empty(&self) -> Option<(u32, u64, u64)> {
        let piece = self.space.pieces().find(|&p| self.space.live(p) == 0)?;
        Some((piece, self.start(piece), self.space.size(piece)))
    }

    /// Takes an empty segment away, which is mapped no more; what backed it.
    pub fn remove(&mut self, piece: u32) -> Vec<Handle> {
        self.bytes -= self.space.size(piece);
        self.space.remove(piece);
        self.backing.get_mut(piece as usize).map(std::mem::take).unwrap_or_default()
    }

    /// Bytes of a segment that hold something.
    pub fn live(&self, piece: u32) -> u64 {
        self.space.live(piece)
    }

    /// Granules that back the scratch.
    pub fn scratch_granules(&self) -> u64 {
        self.scratch.iter().map(|h| u64::from(h.granules)).sum()
    }

    /// What backs the scratch.
    pub fn scratch(&self) -> &[Handle] {
        &self.scratch
    }

    /// Notes what backs the scratch; what did before.
    pub fn set_scratch(&mut self, handles: Vec<Handle>) -> Vec<Handle> {
        std::mem::replace(&mut self.scratch, handles)
    }

    /// Takes room for `bytes`.
    pub fn take(&mut self, bytes: usize) -> Option<Place> {
        self.space.take(bytes)
    }

    /// As [`Store::take`], in another segment than `piece`.
    pub fn take_outside(&mut self, bytes: usize, piece: u32) -> Option<Place> {
        self.space.take_but(bytes, |p| p == piece)
    }

    /// Frees a place.
    pub fn release(&mut self, place: Place) {
        self.space.release(place);
    }

    /// The address of a place.
    pub fn address(&self, place: Place) -> u64 {
        self.start(place.piece) + place.offset() as u64
    }

    /// The segment with the least in it, if what it holds would fit in the others' gaps twice over:
    /// moving that pays.
    pub fn emptiest(&self) -> Option<u32> {
        let live = |p: &u32| self.space.live(*p);
        let piece = self.space.pieces().filter(|p| live(p) > 0).min_by_key(live)?;
        let elsewhere = self.space.free() - (self.space.size(piece) - live(&piece));
        (elsewhere >= 2 * live(&piece)).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(granules: u32) -> Handle {
        Handle { raw: 7, granules }
    }

    #[test]
    fn segments_come_and_go() {
        let mut store = Store::default();
        assert_eq!((store.base(), store.next()), (None, None));
        store.open(0x1000_0000, 0x10_0000, 0x4_0000, 2);
        assert_eq!(store.next(), Some(0x1010_0000));
        store.add(vec![handle(2)], 0x2_0000);
        assert_eq!(store.next(), Some(0x1014_0000));
        store.add(vec![handle(4)], 0x4_0000);
        assert_eq!(store.next(), None, "no addresses");
        let place = store.take(0x1_8000).expect("room");
        assert_eq!(store.address(place), 0x1010_0000);
        assert_eq!(store.empty(), Some((1, 0x1014_0000, 0x4_0000)));
        assert_eq!(store.remove(1), [handle(4)]);
        assert_eq!(store.empty(), None, "the other holds something");
        assert_eq!((store.bytes(), store.live(0)), (0x2_0000, 0x1_8000));
        store.release(place);
        assert_eq!(store.empty().map(|e| e.0), Some(0));
        store.remove(0);
        assert_eq!((store.bytes(), store.used()), (0, 0));
    }

    #[test]
    fn moving_pays_where_there_is_room_elsewhere() {
        let mut store = Store::default();
        store.open(0x1000_0000, 0, 0x4_0000, 8);
        store.add(vec![handle(4)], 0x4_0000);
        let places: Vec<_> = (0..4).map(|_| store.take(0x1_0000).expect("room")).collect();
        assert_eq!(store.emptiest(), None, "alone");
        store.add(vec![handle(4)], 0x4_0000);
        let other = store.take(0x1_0000).expect("room");
        assert_eq!(store.emptiest(), None, "the first is full");
        places[..2].iter().for_each(|&p| store.release(p));
        assert_eq!(store.emptiest(), Some(1));
        let moved = store.take_outside(0x1_0000, 1).expect("room");
        assert_eq!((moved.piece, other.piece), (0, 1));
    }
}
