//! Running device work so that a fault ends the work and not the process (see guard.c).

use std::ffi::c_void;
use std::sync::Once;

/// A copy of `depth` slices of `height` rows of `width` bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub dst: u64,
    pub src: u64,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub dst_pitch: usize,
    pub dst_slice: usize,
    pub src_pitch: usize,
    pub src_slice: usize,
}

impl Copy {
    /// `n` bytes in one row.
    pub fn flat(dst: u64, src: u64, n: usize) -> Copy {
        Copy {
            dst,
            src,
            width: n,
            height: 1,
            depth: 1,
            dst_pitch: 0,
            dst_slice: 0,
            src_pitch: 0,
            src_slice: 0,
        }
    }

    /// Bytes moved.
    pub fn bytes(&self) -> u64 {
        (self.width * self.height * self.depth) as u64
    }
}

/// A fill of `height` rows of `width` elements of `bytes` bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub dst: u64,
    pub value: u32,
    pub bytes: u32,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

unsafe extern "C" {
    fn sim_guard_install();
    fn sim_guard_run(
        f: unsafe extern "C" fn(*mut c_void),
        arg: *mut c_void,
        address: *mut usize,
    ) -> i32;
    fn sim_copy(arg: *mut c_void);
    fn sim_fill(arg: *mut c_void);
}

/// Installs the handlers; once.
pub fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: only replaces two signal handlers, keeping the former ones.
    ONCE.call_once(|| unsafe { sim_guard_install() });
}

fn run(f: unsafe extern "C" fn(*mut c_void), arg: *mut c_void) -> Result<(), u64> {
    let mut address = 0usize;
    // SAFETY: `f` is C code that holds nothing a jump would leak; `arg` is what it takes.
    match unsafe { sim_guard_run(f, arg, &mut address) } {
        0 => Ok(()),
        _ => Err(address as u64),
    }
}

/// Copies; the address of the fault on failure.
pub fn copy(what: &Copy) -> Result<(), u64> {
    run(sim_copy, std::ptr::from_ref(what).cast_mut().cast())
}

/// Fills; the address of the fault on failure.
pub fn fill(what: &Fill) -> Result<(), u64> {
    run(sim_fill, std::ptr::from_ref(what).cast_mut().cast())
}

/// Calls a kernel's entry with its launch record.
pub fn kernel(entry: unsafe extern "C" fn(*mut c_void), launch: *mut c_void) -> Result<(), u64> {
    run(entry, launch)
}

/// Calls a kernel's entry with a pointer to each parameter.
pub fn kernel_of_params(
    entry: unsafe extern "C" fn(*mut *mut c_void),
    params: *mut *mut c_void,
) -> Result<(), u64> {
    // SAFETY: pointers to whatever are passed in the same way.
    let entry = unsafe {
        std::mem::transmute::<
            unsafe extern "C" fn(*mut *mut c_void),
            unsafe extern "C" fn(*mut c_void),
        >(entry)
    };
    run(entry, params.cast())
}
