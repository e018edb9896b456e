//! Whether the library may be used at all: initialised, and not in the child of a fork.

use crate::abi::{Outcome, code};
use std::sync::atomic::{AtomicU32, Ordering};

/// The process that called cuInit.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// cuInit.
pub fn init() -> Outcome {
    if crate::settings::get().devices == 0 {
        return Err(code::NO_DEVICE);
    }
    let me = std::process::id();
    match OWNER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            crate::guard::install();
            crate::report::at_exit();
            Ok(())
        }
        Err(owner) if owner == me => Ok(()),
        Err(_) => Err(code::NOT_INITIALIZED),
    }
}

/// Fails before cuInit, and in children of forks.
pub fn ready() -> Outcome {
    if OWNER.load(Ordering::Acquire) == std::process::id() {
        Ok(())
    } else {
        Err(code::NOT_INITIALIZED)
    }
}

/// The process that owns the state, if any.
pub fn owner() -> u32 {
    OWNER.load(Ordering::Acquire)
}
