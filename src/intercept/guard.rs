//! What surrounds every hook, so that a hook is only its own meaning.
//!
//! The guard passes a call straight to the driver when the hook was re-entered on this thread
//! (the driver itself may call exported names). A host function of a stream is inside a hook, too,
//! in that sense, but may not call CUDA: `CUDA_ERROR_NOT_PERMITTED`. A panic in a hook never
//! reaches the program:
//!
//! - after the real call: its recorded result is returned, the call is never made twice;
//! - before it: everything that can be is made resident, then the call is made, or answered with
//!   `CUDA_ERROR_UNKNOWN` when something stayed evicted and an operand might be it.
//!
//! After a panic the library is frozen (see `lifecycle`). The state of the thread is one constant
//! thread-local without destructor: it is valid as long as the thread runs any code at all.

use super::lifecycle;
use crate::driver::{CUresult, code};
use crate::fault;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where this thread is.
struct Thread {
    /// Inside a hook's body.
    entered: Cell<bool>,
    /// Inside a host function of a stream; `entered` is set as well then.
    callback: Cell<bool>,
    /// What the real call of the present hook returned, once it was made.
    made: Cell<Option<CUresult>>,
    /// Its name; only kept in builds with debug assertions.
    name: Cell<&'static str>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            entered: Cell::new(false),
            callback: Cell::new(false),
            made: Cell::new(None),
            name: Cell::new(""),
        }
    };
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
///
/// `|api| around f:` has `f(api, arguments, call)` make the call where the body does not: after a
/// panic, and for the driver's own.
#[macro_export]
macro_rules! hook {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        |$api:ident $(, $call:ident)?| $(around $around:path:)? $body:block)+) => {$(
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
            #[allow(unused_variables, reason = "the last one counts")]
            let passed_on = direct;
            $(let passed_on = move || $around($api, *all, direct);)?
            $crate::intercept::guard::run(
                stringify!($name),
                passed_on,
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
            return nested(thread, &direct);
        }
        thread.made.set(None);
        if cfg!(debug_assertions) {
            thread.name.set(name);
        }
        let result = match catch_unwind(AssertUnwindSafe(|| followed(name, body))) {
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

#[inline(always)]
fn followed<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    fault::point("enter", name);
    let result = body();
    fault::point("leave", name);
    result
}

/// A call of the driver's own is passed on. A host function may not call CUDA: what would touch
/// memory could wait for the very stream that waits for it.
#[cold]
#[inline(never)]
fn nested(thread: &Thread, direct: &dyn Fn() -> CUresult) -> CUresult {
    if thread.callback.get() { code::NOT_PERMITTED } else { direct() }
}

/// Runs a host function of the program's that the driver calls from a stream.
pub fn callback(run: impl FnOnce()) {
    THREAD.with(|thread| {
        let before = (thread.entered.replace(true), thread.callback.replace(true));
        run();
        thread.entered.set(before.0);
        thread.callback.set(before.1);
    });
}

/// Makes the call the program asked for. Only this call is recorded; what the engine asks of the
/// driver on the way is its own business.
#[inline(always)]
pub fn real(call: impl FnOnce() -> CUresult) -> CUresult {
    fault::point("before", name());
    let result = call();
    THREAD.with(|thread| thread.made.set(Some(result)));
    fault::point("after", name());
    result
}

/// As [`real`] for what the driver cannot do in our place: memory of ours is freed, or asked about.
/// A panic before it is done is `CUDA_ERROR_UNKNOWN`, and the driver is not asked.
#[inline(always)]
pub fn served(answer: impl FnOnce() -> CUresult) -> CUresult {
    THREAD.with(|thread| thread.made.set(Some(code::UNKNOWN)));
    real(answer)
}

/// From here on the call has happened, with this result; a panic in what is left to do for it does
/// not undo that.
#[inline(always)]
pub fn decided(result: CUresult) {
    THREAD.with(|thread| thread.made.set(Some(result)));
}

/// The hook whose body runs on this thread, where panics are asked for by its name.
#[inline(always)]
fn name() -> &'static str {
    if cfg!(debug_assertions) { THREAD.with(|thread| thread.name.get()) } else { "" }
}

/// True while a hook's body runs on this thread.
pub fn entered() -> bool {
    THREAD.with(|thread| thread.entered.get())
}

/// Runs a function of our own C interface: a panic becomes `failed`, and freezes like one in a
/// hook does.
pub fn ours<R>(name: &'static str, failed: R, body: impl FnOnce() -> R) -> R {
    THREAD.with(|thread| {
        if thread.callback.get() {
            return failed;
        }
        let before = thread.entered.replace(true);
        let body = || followed(name, body);
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
