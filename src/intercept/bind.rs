//! The first call of any entry point: the real driver is found and every export is led where it
//! belongs, all at once.
//!
//! Takes no lock: another thread may hold the loader's and call in, and the loader's is needed to
//! open the driver. Threads that come together each do the same work; the first result counts.

use super::latch;
use crate::driver::locate::{self, Library};
use crate::driver::{self, Api, CUresult, code};
use crate::exports::{Action, COUNT, Code, EXPORTS, Slot, slots};
use crate::{config, say};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was found.
#[derive(Debug)]
struct Bound {
    /// The real function of every export, in their order; null where the driver has none.
    real: [Code; COUNT],
    /// Whether there is a driver at all.
    driver: bool,
}

static BOUND: OnceLock<Box<Bound>> = OnceLock::new();
/// The driver called one of our exports while it was being looked at.
static CALLED_BACK: AtomicBool = AtomicBool::new(false);

thread_local! {
    static BINDING: Cell<bool> = const { Cell::new(false) };
}

/// The real function of export number `index`; null where there is none.
pub fn real(index: usize) -> *const () {
    BOUND.get().map_or(null(), |bound| bound.real[index].0)
}

/// Finds the driver and leads all exports; false when this thread is already doing that.
pub fn bind() -> bool {
    if BINDING.replace(true) {
        CALLED_BACK.store(true, Ordering::Relaxed);
        return false;
    }
    let done = catch_unwind(AssertUnwindSafe(|| {
        let bound = match BOUND.get() {
            Some(bound) => bound,
            // Not inside the initialiser: see above about locks.
            None => {
                let found = find();
                BOUND.get_or_init(|| found)
            }
        };
        lead(bound);
    }));
    BINDING.set(false);
    done.is_ok()
}

fn find() -> Box<Bound> {
    let mut bound = Box::new(Bound { real: [Code(null()); COUNT], driver: false });
    let found = locate::open().and_then(|library| {
        for (real, export) in bound.real.iter_mut().zip(&EXPORTS) {
            real.0 = library.symbol(export.symbol);
        }
        if config::get().disabled.is_none() {
            never_ourselves(&library, &bound.real)?;
        }
        Ok(library)
    });
    match found {
        Ok(library) => {
            // SAFETY: the pointers come from the driver's own library under these names.
            driver::install(unsafe { Api::load(|name| library.symbol(name) as *mut c_void) });
            bound.driver = true;
        }
        Err(why) => say::once("driver", &format!("{why}; CUDA calls will return errors")),
    }
    bound
}

/// Names asked for to see where the driver's own resolver leads, by the version of their first
/// ABI with 64-bit pointers.
const PROBES: [(&CStr, i32); 6] = [
    (c"cuInit", 2000),
    (c"cuCtxGetCurrent", 4000),
    (c"cuMemAlloc", 3020),
    (c"cuMemcpyHtoDAsync", 3020),
    (c"cuLaunchKernel", 4000),
    (c"cuGetProcAddress", 11030),
];

/// An error when the library leads back here, whether by its symbols or by its resolver: calls
/// would go round for ever.
fn never_ourselves(library: &Library, real: &[Code; COUNT]) -> Result<(), String> {
    let ours = locate::own_image();
    let back = |name: &str| {
        Err(format!("{}: {name} leads back to coldpress, refused", library.path.display()))
    };
    if let Some(i) = real.iter().position(|code| ours.contains(&(code.0 as usize))) {
        return back(EXPORTS[i].name());
    }
    let resolver = library.symbol(c"cuGetProcAddress");
    if resolver.is_null() {
        return Ok(());
    }
    // SAFETY: this exported name has had this signature since it exists.
    let resolver = unsafe {
        std::mem::transmute::<
            *const (),
            unsafe extern "C" fn(*const c_char, *mut *mut c_void, i32, u64) -> CUresult,
        >(resolver)
    };
    for (name, version) in PROBES {
        let mut found = std::ptr::null_mut();
        // SAFETY: a terminated name and a live local; it needs no initialised driver.
        let result = unsafe { resolver(name.as_ptr(), &mut found, version, 0) };
        if result == code::SUCCESS && ours.contains(&(found as usize))
            || CALLED_BACK.load(Ordering::Relaxed)
        {
            return back("its resolver");
        }
    }
    Ok(())
}

/// Leads every export to where it belongs.
fn lead(bound: &Bound) {
    if !bound.driver {
        for (slot, export) in slots().iter().zip(&EXPORTS) {
            let answer = if export.base == "cuInit" { no_device } else { not_initialized };
            slot.lead_to(answer as *const ());
        }
        return;
    }
    if let Some(why) = &config::get().disabled {
        if why != "COLDPRESS_DISABLE" {
            say::once("disabled", &format!("off: {why}"));
        }
        return pass_all();
    }
    for ((slot, real), export) in slots().iter().zip(&bound.real).zip(&EXPORTS) {
        match export.action {
            _ if real.0.is_null() => slot.lead_to(not_found as *const ()),
            Action::Hook(hook) => slot.lead_to(hook.0),
            Action::Pass => slot.lead_to(real.0),
            Action::Latch => slot.lead_to(latch::entry as *const ()),
        }
    }
}

/// Leads every export to the driver's own function. In a forked child nothing else may be done,
/// so this only stores.
pub fn pass_all() {
    let Some(bound) = BOUND.get().filter(|bound| bound.driver) else { return };
    for (slot, real) in slots().iter().zip(&bound.real) {
        slot.lead_to(if real.0.is_null() { not_found as *const () } else { real.0 });
    }
    latch::pass_all();
}

/// The index of the export whose slot this is.
pub fn index_of(slot: *const Slot) -> Option<usize> {
    let at = (slot as usize).checked_sub(slots().as_ptr() as usize)? / size_of::<Slot>();
    (at < COUNT).then_some(at)
}

extern "C" fn not_found() -> CUresult {
    code::NOT_FOUND
}

extern "C" fn not_initialized() -> CUresult {
    code::NOT_INITIALIZED
}

extern "C" fn no_device() -> CUresult {
    code::NO_DEVICE
}
