//! The `extra` form of launch parameters: a list of pairs that ends with a null.

use std::ffi::c_void;

/// CU_LAUNCH_PARAM_BUFFER_POINTER
const POINTER: usize = 1;
/// CU_LAUNCH_PARAM_BUFFER_SIZE
const SIZE: usize = 2;
/// More pairs than any list has that means something.
const PAIRS: usize = 16;

/// What a list says.
#[derive(Debug, PartialEq, Eq)]
pub enum Extra {
    /// Every 8-byte word of the parameters, at a stride of 4.
    Words(Vec<u64>),
    /// No parameters, or a list the driver refuses.
    Nothing,
    /// Something else than a buffer: what it reaches is not known.
    Unknown,
}

/// Reads a list.
///
/// # Safety
/// `list` is what the program passes to the driver: pairs of readable words up to a null one; the
/// buffer and its size are readable.
pub unsafe fn read(list: *const *mut c_void) -> Extra {
    let (mut buffer, mut size) = (std::ptr::null::<u8>(), None);
    for pair in 0..PAIRS {
        // SAFETY: the caller vouches for pairs up to a null, which has not come yet.
        let (key, value) = unsafe {
            let key = *list.add(2 * pair) as usize;
            if key == 0 {
                break;
            }
            (key, *list.add(2 * pair + 1))
        };
        match key {
            POINTER => buffer = value.cast_const().cast(),
            SIZE if value.is_null() => return Extra::Nothing,
            // SAFETY: the value of this key points to the size.
            SIZE => size = Some(unsafe { value.cast::<usize>().read_unaligned() }),
            _ => return Extra::Unknown,
        }
    }
    match size {
        Some(size) if !buffer.is_null() => {
            // SAFETY: the program says that `size` bytes are there.
            Extra::Words(words(unsafe { std::slice::from_raw_parts(buffer, size) }))
        }
        _ => Extra::Nothing,
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let mut out = Vec::with_capacity(bytes.len() / 4);
    out.extend(
        bytes.windows(8).step_by(4).filter_map(|w| w.try_into().ok().map(u64::from_le_bytes)),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(k: usize) -> *mut c_void {
        k as *mut c_void
    }

    #[test]
    fn a_buffer_in_either_order_of_its_pairs() {
        let mut bytes = Vec::new();
        bytes.extend(0x7E00_0000_0000u64.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        bytes.extend(0x7E00_0000_1000u64.to_le_bytes());
        let mut size = bytes.len();
        let (buffer, len) = (bytes.as_mut_ptr().cast(), (&raw mut size).cast());
        for list in [
            [key(POINTER), buffer, key(SIZE), len, key(0)],
            [key(SIZE), len, key(POINTER), buffer, key(0)],
        ] {
            // SAFETY: a terminated list over live locals.
            let Extra::Words(words) = (unsafe { read(list.as_ptr()) }) else { panic!("a buffer") };
            assert_eq!(words.len(), 4, "strides of 4 in 20 bytes");
            assert!(words.contains(&0x7E00_0000_0000) && words.contains(&0x7E00_0000_1000));
        }
    }

    #[test]
    fn what_the_driver_refuses_is_left_to_it() {
        let mut size = 8usize;
        let len = (&raw mut size).cast();
        for (list, is) in [
            (vec![key(0)], Extra::Nothing),
            (vec![key(SIZE), len, key(0)], Extra::Nothing),
            (vec![key(POINTER), key(0), key(SIZE), len, key(0)], Extra::Nothing),
            (vec![key(POINTER), len, key(SIZE), key(0), key(0)], Extra::Nothing),
            (vec![key(POINTER), len, key(0)], Extra::Nothing),
            (vec![key(9), len, key(0)], Extra::Unknown),
        ] {
            // SAFETY: terminated lists over live locals.
            assert_eq!(unsafe { read(list.as_ptr()) }, is);
        }
    }

    #[test]
    fn short_buffers_hold_no_address() {
        assert!(words(&[1; 7]).is_empty());
        assert_eq!(words(&[0; 8]).len(), 1);
        assert_eq!(words(&[0; 11]).len(), 1);
        assert_eq!(words(&[0; 12]).len(), 2);
    }
}
