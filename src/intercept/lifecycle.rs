//! When the library may act: from the program's first successful `cuInit` to its end.
//!
//! Owns: start, the frozen state, what a fork and an exit mean. Never: a call into CUDA from an
//! exit handler or a forked child, a wait in either.

use super::{bind, guard};
use crate::driver::{self, Api, code};
use crate::residency::{control, engine};
use crate::{hook, say, stats};
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The process that initialised CUDA; 0 before that.
static OWNER: AtomicU32 = AtomicU32::new(0);
static DEAD: AtomicBool = AtomicBool::new(false);

/// True in a child forked after CUDA was initialised: CUDA does not work there, and nothing of
/// ours may either. Every entry point leads to the driver, whose own answer shows.
#[inline]
pub fn dead() -> bool {
    DEAD.load(Ordering::Acquire)
}

/// True after a panic or at the end of the process: nothing new is managed, nothing is evicted.
/// What is managed stays so: frees, queries and operations on it keep working.
#[inline]
pub fn frozen() -> bool {
    engine::frozen()
}

/// After a successful real `cuInit`: the statistics page gets its file, the start line is said.
/// Only the first call does anything.
pub fn start() {
    let this = std::process::id();
    if OWNER.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    let Some(api) = driver::api() else { return };
    // SAFETY: the handlers are functions of this library, which is never unloaded (it is linked
    // so); both tables are the C library's own, which calls them with no arguments.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
        libc::atexit(ending);
    }
    if let Err(e) = stats::open() {
        say::once("stats", &format!("no statistics page: {e}"));
    }
    say::started(&cards(api), driver::version());
}

fn cards(api: &Api) -> Vec<say::Card> {
    let mut count = 0;
    // SAFETY: `count` is a live local.
    if unsafe { (api.cuDeviceGetCount)(&mut count) } != code::SUCCESS {
        return Vec::new();
    }
    (0..count).map(|device| card(api, device)).collect()
}

fn card(api: &Api, device: i32) -> say::Card {
    let (mut name, mut bytes) = ([0 as c_char; 128], 0);
    // SAFETY: both are live locals; the array is one longer than what is said, so it stays
    // terminated. What fails leaves them empty.
    let name = unsafe {
        (api.cuDeviceGetName)(name.as_mut_ptr(), 127, device);
        (api.cuDeviceTotalMem_v2)(&mut bytes, device);
        CStr::from_ptr(name.as_ptr())
    };
    say::Card { name: name.to_string_lossy().into_owned(), bytes: bytes as u64 }
}

/// A panic in `place`: nothing new is managed from here on, and everything is restored that can
/// be. Says whether all of it is resident now.
pub fn freeze(place: &str) -> bool {
    if engine::freeze() {
        stats::page().set_eviction_off("a fault in coldpress");
        say::once(
            "frozen",
            &format!("a fault in {place}: managing nothing new from here on; please report it"),
        );
    }
    let restored = catch_unwind(AssertUnwindSafe(control::restore_all));
    matches!(restored, Ok(Ok(()))) && engine::EVICTED.load(Ordering::SeqCst) == 0
}

/// The driver has answered that it is shutting down: nothing is managed any more, and the
/// background thread ends.
#[cold]
pub fn deinitialized() {
    engine::freeze();
    control::stop_manager();
}

/// The child of a fork. Only stores, as is allowed there; other threads' locks may be held
/// forever.
extern "C" fn forked() {
    DEAD.store(true, Ordering::Release);
    engine::freeze();
    bind::pass_all();
}

/// At exit. Other threads may still launch: their hooks go on, only eviction ends. The driver is
/// about to go, so it is not asked for anything.
extern "C" fn ending() {
    if OWNER.load(Ordering::Acquire) != std::process::id() {
        return;
    }
    let _ = catch_unwind(|| {
        deinitialized();
        say::ended();
        #[cfg(debug_assertions)]
        crate::residency::audit::ended();
        stats::close();
    });
}

hook! {
    fn cuInit(flags: u32) |api| {
        let result = guard::real(|| {
            // SAFETY: the program's own call.
            unsafe { (api.cuInit)(flags) }
        });
        if result == code::SUCCESS {
            start();
        }
        result
    }
}
