//! A program with one mistake, which a sanitizer must report: `scripts/sanitize` runs it to show
//! that its reports arrive, those from inside the library too.
//!
//! `race`: two threads let the library write to the same place. `beyond`: the library is told to
//! write past the end of a block. `leak`: a block is forgotten. `nothing`: no mistake.

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Init = unsafe extern "C" fn(u32) -> u32;
type Retain = unsafe extern "C" fn(*mut usize, i32) -> u32;
type Set = unsafe extern "C" fn(usize) -> u32;
type Allocate = unsafe extern "C" fn(*mut u64, usize) -> u32;
type Range = unsafe extern "C" fn(*mut u64, *mut usize, u64) -> u32;

fn main() {
    let how = std::env::args().nth(1).expect("race, beyond, leak or nothing");
    const NOW: c_int = 2;
    // SAFETY: a library with these functions of these types; the mistakes are what is wanted.
    unsafe {
        let library = dlopen(c"libcuda.so.1".as_ptr(), NOW);
        let find = |name: &CStr| {
            let found = dlsym(library, name.as_ptr());
            assert!(!found.is_null(), "{name:?}");
            found
        };
        let init: Init = std::mem::transmute(find(c"cuInit"));
        let retain: Retain = std::mem::transmute(find(c"cuDevicePrimaryCtxRetain"));
        let set: Set = std::mem::transmute(find(c"cuCtxSetCurrent"));
        let allocate: Allocate = std::mem::transmute(find(c"cuMemAlloc_v2"));
        let range: Range = std::mem::transmute(find(c"cuMemGetAddressRange_v2"));

        let (mut context, mut buffer) = (0, 0);
        assert_eq!(init(0), 0);
        assert_eq!(retain(&mut context, 0), 0);
        assert_eq!(set(context), 0);
        assert_eq!(allocate(&mut buffer, 4096), 0);
        let numbers = Box::into_raw(Box::new([0u64; 2])) as usize;
        // The library itself writes the first address of the buffer into one of the numbers.
        let ask = |at: usize| {
            let start = numbers + at * size_of::<u64>();
            assert_eq!(range(start as *mut u64, std::ptr::null_mut(), buffer), 0);
        };
        match how.as_str() {
            "race" => std::thread::scope(|scope| {
                // On a busy machine one would be done before the other begins, and locks of the
                // library in between would order them.
                let both = std::sync::Barrier::new(2);
                let asking = || {
                    assert_eq!(set(context), 0);
                    both.wait();
                    (0..50_000).for_each(|_| ask(1));
                };
                scope.spawn(&asking);
                asking();
            }),
            "beyond" => ask(2),
            "leak" => std::mem::forget(std::hint::black_box(vec![1u8; 4321])),
            _ => ask(1),
        }
        drop(Box::from_raw(numbers as *mut [u64; 2]));
    }
}
