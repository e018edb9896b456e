//! Which `libcuda.so.1` this process uses, and whether it is this one.
//!
//! Owns: the answer, and the driver functions as the program sees them. A second copy of the
//! file, or one that was loaded after NVIDIA's library, is an instance that nobody calls: it sees
//! no launches, so it must not manage memory. It still allocates, from the library the loader
//! gives to everybody.

use crate::driver::Api;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// The library that the loader gives to everybody under the driver's name.
#[derive(Debug)]
struct Loaded {
    api: Api,
    ours: bool,
}

fn loaded() -> Option<&'static Loaded> {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Some(loaded);
    }
    // SAFETY: a plain string; nothing is loaded that is not loaded already.
    let library =
        unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if library.is_null() {
        // Nobody has a driver yet: ask again the next time.
        return None;
    }
    // Looked up before, not inside the initialiser: another thread may hold the loader's lock and
    // call in.
    let found = {
        // SAFETY: the library has the driver's name, so these names are the driver's functions;
        // it is never closed.
        let api = unsafe { Api::load(|name| look_up(library, name)) };
        let ours = is_ours(look_up(library, c"cuGetProcAddress_v2"));
        Loaded { api, ours }
    };
    Some(LOADED.get_or_init(|| found))
}

fn look_up(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: an open library and a string.
    unsafe { libc::dlsym(library, name.as_ptr()) }
}

/// True for an address in the file that this code is in.
fn is_ours(address: *const c_void) -> bool {
    let base = |address: *const c_void| {
        let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: any address may be asked for; `info` is written when the answer is not 0.
        (unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0)
            // SAFETY: written by the successful call.
            .then(|| unsafe { info.assume_init() }.dli_fbase)
    };
    let own = base(is_ours as fn(*const c_void) -> bool as *const c_void);
    !address.is_null() && own.is_some() && base(address) == own
}

/// True if the program's driver calls come through this instance.
pub fn active() -> bool {
    loaded().is_some_and(|loaded| loaded.ours)
}

/// The driver as the program sees it: our own exports in the active instance, which lead straight
/// to the driver inside the guard.
pub fn program() -> Option<&'static Api> {
    loaded().map(|loaded| &loaded.api)
}

/// Says once why this instance only allocates.
pub fn say_inactive() {
    crate::say::once(
        "inactive",
        "this copy was loaded beside the libcuda.so.1 in use, so it only allocates and nothing \
         is evicted; preload it, or load it before anything opens CUDA",
    );
}
