//! What device work does: copies, fills, kernels, host functions, stream-ordered frees.

use crate::context::Context;
use crate::flip::Flip;
use crate::guard::{self, Copy, Fill};
use crate::image::{Entry, Image};
use crate::space::SPACE;
use crate::{memory, report, settings};
use parking_lot::Mutex;
use std::ffi::c_void;
use std::sync::Arc;

/// A kernel with everything its launch needs.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    /// Its image, which stays loaded until the launch has run, and its place there.
    pub image: Arc<Image>,
    pub index: usize,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub params: Vec<u64>,
}

/// One piece of work.
#[derive(Debug)]
pub enum Work {
    /// Bytes from here to there; `staged` keeps a snapshot of the source alive.
    Copy {
        copy: Copy,
        #[allow(dead_code, reason = "owned, read through the copy's address")]
        staged: Option<Vec<u8>>,
        /// What a test wants to go wrong.
        flip: Option<Flip>,
    },
    /// A memset.
    Fill(Fill),
    /// A launch.
    Kernel(Box<Kernel>),
    /// A host function: `f(data)`, or the older form with stream and status.
    Host { f: usize, data: usize, stream: usize, old: bool },
    /// The end of an allocation in stream order.
    Free(memory::Allocation),
}

/// What a kernel's symbol takes.
#[repr(C)]
struct Launch {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    params: *const c_void,
}

impl Kernel {
    fn run(&self) -> Result<(), u64> {
        let info = &self.image.kernels[self.index];
        match info.entry {
            Entry::Launch(entry) => {
                let mut launch = Launch {
                    grid: self.grid,
                    block: self.block,
                    shared: self.shared,
                    params: self.params.as_ptr().cast(),
                };
                guard::kernel(entry, (&raw mut launch).cast())
            }
            Entry::Params(entry) => {
                let start = self.params.as_ptr() as usize;
                let at = |&(offset, _): &(u32, u32)| (start + offset as usize) as *mut c_void;
                let mut params: Vec<*mut c_void> = info.params.iter().map(at).collect();
                guard::kernel_of_params(entry, params.as_mut_ptr())
            }
        }
    }
}

/// Strict mode runs one piece of device work at a time.
static ONE: Mutex<()> = Mutex::new(());

impl Work {
    /// Runs it. A fault becomes the context's sticky error.
    pub fn run(self, ctx: &Context, stream: usize) {
        match self {
            Work::Host { f, data, stream, old } => host(f, data, stream, old),
            Work::Free(allocation) => memory::release(allocation),
            // After a fault a context runs nothing more.
            _ if ctx.sticky() != 0 => {}
            work => {
                let strict = settings::get().strict;
                let _one = strict.then(|| ONE.lock());
                if strict {
                    SPACE.lock().show(true);
                }
                let result = work.on_device();
                if strict {
                    SPACE.lock().show(false);
                }
                if let Err(address) = result {
                    ctx.fault();
                    report::fault(address, work.name(), stream);
                }
            }
        }
    }

    fn on_device(&self) -> Result<(), u64> {
        match self {
            Work::Copy { copy, flip, .. } => {
                guard::copy(copy)?;
                flip.iter().for_each(|flip| flip.apply(copy));
                Ok(())
            }
            Work::Fill(fill) => guard::fill(fill),
            Work::Kernel(kernel) => kernel.run(),
            Work::Host { .. } | Work::Free(_) => Ok(()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Work::Kernel(kernel) => &kernel.name,
            Work::Copy { .. } => "copy",
            Work::Fill(_) => "memset",
            _ => "host",
        }
    }

    /// How long it takes by the clocked mode's rates.
    pub fn duration_us(&self, bytes_per_us: u64, kernel_us: u64) -> u64 {
        match self {
            Work::Copy { copy, .. } => copy.bytes() / bytes_per_us.max(1),
            Work::Fill(fill) => {
                (fill.width * fill.height) as u64 * u64::from(fill.bytes) / bytes_per_us.max(1)
            }
            Work::Kernel(_) => kernel_us,
            _ => 0,
        }
    }
}

fn host(f: usize, data: usize, stream: usize, old: bool) {
    // SAFETY: the program gave this function and promised that it may be called with `data`.
    unsafe {
        if old {
            type Old = unsafe extern "C" fn(*mut c_void, u32, *mut c_void);
            std::mem::transmute::<usize, Old>(f)(stream as *mut c_void, 0, data as *mut c_void);
        } else {
            type New = unsafe extern "C" fn(*mut c_void);
            std::mem::transmute::<usize, New>(f)(data as *mut c_void);
        }
    }
}
