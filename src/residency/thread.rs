//! Threads of the engine's own.

/// Starts one. The program's signals are for the program's threads: a new thread inherits the
/// mask, so all are blocked for that moment. False, and said once, if the system has none.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> bool {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises `all`; pthread_sigmask writes `before`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    // SAFETY: `before` was written above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread
        .inspect_err(|e| crate::say::once("manager", &format!("no background thread: {e}")))
        .is_ok()
}
