//! Which bytes a copy or a memset touches: pure arithmetic on the driver's descriptions.
//!
//! Every result is one range from the first byte to the last, gaps between rows included: what
//! lies in the gaps belongs to the same allocation. Nonsense saturates; the driver refuses it.

use crate::driver::types::{Memcpy2D, Memcpy3D};
use crate::residency::submit::Operand;

/// CU_MEMORYTYPE_HOST
const HOST: u32 = 1;
/// CU_MEMORYTYPE_ARRAY
const ARRAY: u32 = 3;

/// No memory at all; what an array is, whose bytes have no address.
pub const NOWHERE: Operand = Operand { ptr: 0, len: 0 };

/// A box in a pitched volume.
#[derive(Clone, Copy, Debug)]
struct Volume {
    base: u64,
    /// Bytes from row to row; 0 for rows without gaps.
    pitch: usize,
    /// Rows from slice to slice; 0 for slices without gaps.
    rows: usize,
    /// Where the box starts: bytes, rows, slices.
    at: [usize; 3],
    /// Its size.
    size: [usize; 3],
}

impl Volume {
    fn range(&self) -> Operand {
        let [x, y, z] = self.at;
        let [width, height, depth] = self.size;
        if width == 0 || height == 0 || depth == 0 {
            return NOWHERE;
        }
        let pitch = if self.pitch == 0 { x.saturating_add(width) } else { self.pitch };
        let rows = if self.rows == 0 { y.saturating_add(height) } else { self.rows };
        let byte = |slice: usize, row: usize| {
            slice.saturating_mul(rows).saturating_add(row).saturating_mul(pitch)
        };
        let first = byte(z, y).saturating_add(x);
        let len = byte(depth - 1, height - 1).saturating_add(width);
        Operand { ptr: self.base.saturating_add(first as u64), len }
    }
}

/// One side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its bytes.
    pub range: Operand,
    /// Declared to be host memory.
    pub host: bool,
}

fn side(kind: u32, host: *const std::ffi::c_void, mut volume: Volume) -> Side {
    if kind == ARRAY {
        return Side { range: NOWHERE, host: false };
    }
    if kind == HOST {
        volume.base = host as u64;
    }
    Side { range: volume.range(), host: kind == HOST }
}

/// The two sides of a 2D copy: (destination, source).
pub fn sides_2d(copy: &Memcpy2D) -> (Side, Side) {
    let size = [copy.width_in_bytes, copy.height, 1];
    let volume = |base, pitch, x, y| Volume { base, pitch, rows: 0, at: [x, y, 0], size };
    let to = volume(copy.dst_device, copy.dst_pitch, copy.dst_x_in_bytes, copy.dst_y);
    let from = volume(copy.src_device, copy.src_pitch, copy.src_x_in_bytes, copy.src_y);
    (side(copy.dst_memory_type, copy.dst_host, to), side(copy.src_memory_type, copy.src_host, from))
}

/// The two sides of a 3D copy: (destination, source).
pub fn sides_3d(copy: &Memcpy3D) -> (Side, Side) {
    let size = [copy.width_in_bytes, copy.height, copy.depth];
    let to = Volume {
        base: copy.dst_device,
        pitch: copy.dst_pitch,
        rows: copy.dst_height,
        at: [copy.dst_x_in_bytes, copy.dst_y, copy.dst_z],
        size,
    };
    let from = Volume {
        base: copy.src_device,
        pitch: copy.src_pitch,
        rows: copy.src_height,
        at: [copy.src_x_in_bytes, copy.src_y, copy.src_z],
        size,
    };
    (side(copy.dst_memory_type, copy.dst_host, to), side(copy.src_memory_type, copy.src_host, from))
}

/// What a 2D memset writes: `height` rows of `width` elements of `element` bytes.
pub fn rows(ptr: u64, pitch: usize, element: usize, width: usize, height: usize) -> Operand {
    let size = [width.saturating_mul(element), height, 1];
    Volume { base: ptr, pitch, rows: 0, at: [0; 3], size }.range()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICE: u32 = 2;
    const UNIFIED: u32 = 4;

    fn copy_2d() -> Memcpy2D {
        // SAFETY: integers and pointers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }

    fn copy_3d() -> Memcpy3D {
        // SAFETY: as above.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn two_dimensions_from_first_byte_to_last() {
        let mut copy = copy_2d();
        copy.src_memory_type = HOST;
        copy.src_host = 0x1000 as *const _;
        copy.src_device = 0xDEAD_0000;
        copy.src_pitch = 100;
        copy.src_x_in_bytes = 10;
        copy.src_y = 2;
        copy.dst_memory_type = DEVICE;
        copy.dst_device = 0x2000;
        copy.dst_pitch = 512;
        copy.width_in_bytes = 50;
        copy.height = 3;
        let (to, from) = sides_2d(&copy);
        assert_eq!(from.range, Operand { ptr: 0x1000 + 210, len: 250 });
        assert!(from.host && !to.host);
        assert_eq!(to.range, Operand { ptr: 0x2000, len: 2 * 512 + 50 });
        copy.src_memory_type = UNIFIED;
        assert_eq!(sides_2d(&copy).1.range.ptr, 0xDEAD_0000 + 210, "unified uses the address");
        copy.dst_memory_type = ARRAY;
        assert_eq!(sides_2d(&copy).0.range, NOWHERE);
        copy.height = 0;
        assert_eq!(sides_2d(&copy).1.range, NOWHERE);
    }

    #[test]
    fn three_dimensions_and_missing_pitches() {
        let mut copy = copy_3d();
        copy.src_memory_type = DEVICE;
        copy.src_device = 0x10_0000;
        copy.src_pitch = 64;
        copy.src_height = 8;
        copy.src_x_in_bytes = 4;
        copy.src_y = 1;
        copy.src_z = 2;
        copy.dst_memory_type = DEVICE;
        copy.dst_device = 0x20_0000;
        copy.width_in_bytes = 16;
        copy.height = 4;
        copy.depth = 3;
        let (to, from) = sides_3d(&copy);
        assert_eq!(from.range.ptr, 0x10_0000 + (2 * 8 + 1) * 64 + 4);
        assert_eq!(from.range.len, (2 * 8 + 3) * 64 + 16);
        assert_eq!(to.range, Operand { ptr: 0x20_0000, len: 16 * 4 * 3 });
    }

    #[test]
    fn memsets_count_elements() {
        assert_eq!(rows(0x1000, 256, 4, 10, 3), Operand { ptr: 0x1000, len: 2 * 256 + 40 });
        assert_eq!(rows(0x1000, 0, 2, 10, 3).len, 60);
        assert_eq!(rows(0x1000, 256, 4, 0, 3), NOWHERE);
    }

    proptest! {
        /// Against the definition: the smallest and largest byte any element has.
        #[test]
        fn agrees_with_counting(
            x in 0usize..9, y in 0usize..5, z in 0usize..4,
            width in 1usize..9, height in 1usize..5, depth in 1usize..4,
            gap in 0usize..9, more in 0usize..4,
        ) {
            let (pitch, rows) = (x + width + gap, y + height + more);
            let volume =
                Volume { base: 1000, pitch, rows, at: [x, y, z], size: [width, height, depth] };
            let mut bytes = Vec::new();
            for s in z..z + depth {
                for r in y..y + height {
                    bytes.extend((x..x + width).map(|b| 1000 + (s * rows + r) * pitch + b));
                }
            }
            let range = volume.range();
            let first = range.ptr as usize;
            prop_assert_eq!(Some(first), bytes.iter().min().copied());
            prop_assert_eq!(Some(first + range.len - 1), bytes.iter().max().copied());
        }

        /// Nonsense neither panics nor wraps round to a smaller range.
        #[test]
        fn saturates(v in prop::array::uniform8(any::<usize>())) {
            let volume = Volume {
                base: v[0] as u64, pitch: v[1], rows: v[2],
                at: [v[3], v[4], v[5]], size: [v[6], v[7], 2],
            };
            let range = volume.range();
            prop_assert!(range == NOWHERE || (range.ptr >= v[0] as u64 && range.len >= v[6]));
        }
    }
}
