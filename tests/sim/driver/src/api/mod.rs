//! The exported functions, by area. What is not implemented answers NOT_SUPPORTED.

mod context;
mod copy;
mod device;
mod host;
mod launch;
mod managed;
mod memory;
mod memset;
mod module;
mod occupancy;
mod pool;
mod query;
mod resolve;
mod stream;
pub mod vmm;

use crate::abi::{Outcome, code};
use crate::entry::Shown;

/// Writes a result through the program's pointer.
fn out<T: Shown>(to: *mut T, value: T) -> Outcome {
    if to.is_null() {
        return Err(code::INVALID_VALUE);
    }
    crate::trace::written(to as usize, || value.shown());
    // SAFETY: the program passes a pointer to room for one value, as the ABI says.
    unsafe { to.write(value) };
    Ok(())
}

/// A device ordinal that exists.
fn device(ordinal: i32) -> Outcome<usize> {
    crate::sim::ready()?;
    let count = crate::settings::get().devices;
    usize::try_from(ordinal).ok().filter(|&d| d < count).ok_or(code::INVALID_DEVICE)
}

mod stubs {
    include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
}
