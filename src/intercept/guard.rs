//! What surrounds every hook, so that a hook is only its own meaning.
//!
//! The guard passes a call straight to the driver when the hook was re-entered on this thread
//! (the driver itself may call exported names). A panic in a hook never reaches the program:
//!
//! - after the real call: its recorded result is returned, the call is never made twice;
//! - before it: everything that can be is made resident, then the call is made, or answered with
//!   `CUDA_ERROR_UNKNOWN` when something stayed evicted and an operand might be it.
//!
//! After a panic the library is frozen (see `lifecycle`). The state of the thread is one constant
//! thread-local without destructor: it is valid as long as the thread runs any code at all.

use super::lifecycle;
use crate::driver::{CUresult, code};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where this thread is.
struct Thread {
    /// Inside a hook's body.
    entered: Cell<bool>,
    /// What the real call of the present hook returned, once it was made.
    made: Cell<Option<CUresult>>,
}

thread_local! {
    static THREAD: Thread = const { Thread { entered: Cell::new(false), made: Cell::new(None) } };
}

/// Defines a hook: an entry point of the driver with a meaning of our own.
///
/// `|api|` names the real driver's functions inside the body; the body makes the real call through
/// [`real`] and returns the status. Arguments are plain values (`Copy`). The function is an
/// ordinary one: the exported symbol of the same name jumps to it.
///
/// ```ignore
/// hook! {
///     fn cuMemFree_v2(dptr: CUdeviceptr) |api| {
///         guard::real(|| unsafe { (api.cuMemFree_v2)(dptr) })
///     }
/// }
/// ```
///
/// `|api, call|` also gives `call`, which makes exactly the program's call: for hot paths, since it
/// holds one pointer where a closure of the body's own would hold one for each argument.
#[macro_export]
macro_rules! hook {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        |$api:ident $(, $call:ident)?| $body:block)+) => {$(
        $(#[$meta])*
        #[allow(non_snake_case, reason = "the driver's own name")]
        #[allow(missing_docs, reason = "the driver documents it")]
        #[allow(clippy::missing_safety_doc, reason = "the driver's own contract")]
        #[allow(clippy::too_many_arguments, reason = "the driver's own signature")]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::driver::CUresult {
            let Some($api) = $crate::driver::api() else {
                return $crate::driver::code::NOT_INITIALIZED;
            };
            // In one place, so that each closure holds one pointer.
            let all = ($($arg,)*);
            let all = &all;
            let direct = move || {
                let ($($arg,)*) = *all;
                // SAFETY: the program's own call, passed on as it is.
                unsafe { ($api.$name)($($arg),*) }
            };
            $crate::intercept::guard::run(
                stringify!($name),
                direct,
                move || -> $crate::driver::CUresult {
                    #[allow(unused_variables, reason = "not every hook looks at every argument")]
                    let ($($arg,)*) = *all;
                    $(let $call = move || $crate::intercept::guard::real(direct);)?
                    $body
                },
            )
        }
    )+};
}

/// Runs a hook: `body` under the guard, or `direct` (the program's call as it is).
#[inline(always)]
pub fn run(
    name: &'static str,
    direct: impl Fn() -> CUresult,
    body: impl FnOnce() -> CUresult,
) -> CUresult {
    THREAD.with(|thread| {
        if thread.entered.replace(true) {
            return direct();
        }
        thread.made.set(None);
        let result = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(result) => result,
            Err(_) => after_panic(name, thread.made.get(), &direct),
        };
        thread.entered.set(false);
        if result == code::DEINITIALIZED {
            lifecycle::deinitialized();
        }
        result
    })
}

/// Makes the call the program asked for. Only this call is recorded; what the engine asks of the
/// driver on the way is its own business.
#[inline(always)]
pub fn real(call: impl FnOnce() -> CUresult) -> CUresult {
    #[cfg(debug_assertions)]
    fault::point(fault::BEFORE);
    let result = call();
    THREAD.with(|thread| thread.made.set(Some(result)));
    #[cfg(debug_assertions)]
    fault::point(fault::AFTER);
    result
}

/// True while a hook's body runs on this thread.
pub fn entered() -> bool {
    THREAD.with(|thread| thread.entered.get())
}

/// Runs a function of our own C interface: a panic becomes `failed`, and freezes like one in a
/// hook does.
pub fn ours<R>(name: &'static str, failed: R, body: impl FnOnce() -> R) -> R {
    THREAD.with(|thread| {
        let before = thread.entered.replace(true);
        let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
            lifecycle::freeze(name);
            failed
        });
        thread.entered.set(before);
        result
    })
}

#[cold]
#[inline(never)]
fn after_panic(name: &str, made: Option<CUresult>, direct: &dyn Fn() -> CUresult) -> CUresult {
    let all_resident = lifecycle::freeze(name);
    match made {
        Some(result) => result,
        None if all_resident => direct(),
        None => code::UNKNOWN,
    }
}

/// Panics on demand, so that the rules above can be tested from outside: in builds with debug
/// assertions `TEST_COLDPRESS_PANIC=before` or `after` makes the first real call of a process
/// panic there, `before:N` the N-th. Release builds do not contain this.
#[cfg(debug_assertions)]
mod fault {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    pub const BEFORE: &str = "before";
    pub const AFTER: &str = "after";

    pub fn point(here: &str) {
        static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static SEEN: AtomicU64 = AtomicU64::new(0);
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var("TEST_COLDPRESS_PANIC").ok()?;
            let (place, n) = text.split_once(':').unwrap_or((&text, "1"));
            Some((place.to_owned(), n.parse().unwrap_or(1)))
        });
        let Some((place, n)) = wanted else { return };
        if place == here && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == *n {
            panic!("TEST_COLDPRESS_PANIC");
        }
    }
}
