//! What happens when the library is loaded, which under `LD_PRELOAD` is in every process of a
//! job, shells and compilers included: the alias is opened, the environment is read, nothing else.

use crate::driver::locate;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;

/// Answers to `libcuda.so`, for programs that open the driver by that name.
const ALIAS: &str = "libcoldpress-alias.so";

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

extern "C" fn loaded() {
    // The same code is part of the command and of test programs, which are not the driver.
    if locate::in_the_program() {
        return;
    }
    let _ = catch_unwind(|| {
        // Programs may change their environment later; what counts is what they were started with.
        crate::say::loaded();
        crate::config::loaded();
        open_alias();
    });
}

fn open_alias() {
    let Some(alias) = locate::own_file().and_then(|file| Some(file.parent()?.join(ALIAS))) else {
        return;
    };
    let Ok(alias) = CString::new(alias.as_os_str().as_bytes()) else { return };
    // SAFETY: a terminated path. Without the alias only that one name is not answered to.
    unsafe { libc::dlopen(alias.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
}
