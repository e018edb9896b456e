//! Pinned host memory.

use crate::case::{Case, Outcome, refused, same};
use crate::context::{Cx, mix};
use cuda_client::{Code, Stream, flag};

pub const CASES: &[Case] = &[
    Case::new("host.zero", "No bytes of pinned memory are refused.", zero),
    Case::new("host.flags", "Pinned memory tells its flags; unknown flags are refused.", flags),
    Case::new(
        "host.same_address",
        "Under unified addressing mapped memory has one address for host and device.",
        same_address,
    ),
    Case::new("host.kernel_writes", "A kernel writes mapped host memory.", kernel_writes),
    Case::new("host.free_twice", "The second free of pinned memory is refused.", free_twice),
    Case::new("host.register", "Registered memory is the program's own, known until the end.", own),
    Case::new("host.register_twice", "Registering again is refused.", register_twice),
    Case::new("host.unregister_unknown", "What is not registered is not unregistered.", unknown),
    Case::new("host.unregister_allocated", "Allocated pinned memory is not unregistered.", mixed),
];

fn zero(cx: &Cx) -> Outcome {
    refused("cuMemHostAlloc(0)", cx.host_alloc(0, 0), Code::INVALID_VALUE)
}

fn flags(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(4096, flag::HOST_PORTABLE | flag::HOST_MAPPED)?;
    let said = cx.host_flags(host);
    // SAFETY: allocated above, used by nobody.
    unsafe { cx.host_free(host) }?;
    same("flags", said?, flag::HOST_PORTABLE | flag::HOST_MAPPED)?;
    refused("flags 4096", cx.host_alloc(4096, 4096), Code::INVALID_VALUE)
}

fn same_address(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(4096, flag::HOST_MAPPED)?;
    let device = cx.host_device_pointer(host);
    // SAFETY: allocated above, used by nobody.
    unsafe { cx.host_free(host) }?;
    same("address", device?, host as u64)
}

fn kernel_writes(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(4096, flag::HOST_MAPPED)?;
    cx.fill(cx.host_device_pointer(host)?, 1024, 5, Stream::NULL)?;
    cx.ctx_synchronize()?;
    // SAFETY: pinned memory of this size, and the device is idle.
    let words = unsafe { std::slice::from_raw_parts(host.cast::<u32>(), 1024) }.to_vec();
    // SAFETY: used by nobody any more.
    unsafe { cx.host_free(host) }?;
    same("the last word", words[1023], mix(5 + 1023))
}

fn free_twice(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(4096, 0)?;
    // SAFETY: the memory is used by nobody.
    unsafe { cx.host_free(host) }?;
    // SAFETY: still nobody; the driver must refuse an address it no longer knows.
    refused("again", unsafe { cx.host_free(host) }, Code::INVALID_VALUE)
}

/// Page-aligned memory of the program's own.
fn pages() -> Vec<u8> {
    vec![0u8; 4 * 4096]
}

fn aligned(pages: &mut [u8]) -> *mut std::ffi::c_void {
    let at = pages.as_mut_ptr();
    at.wrapping_add(at.align_offset(4096)).cast()
}

fn own(cx: &Cx) -> Outcome {
    let mut memory = pages();
    let at = aligned(&mut memory);
    // SAFETY: inside `memory`, which outlives the registration.
    unsafe { cx.host_register(at, 8192, 0) }?;
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at as u64);
    cx.host_unregister(at)?;
    same("type", kind?, u64::from(flag::MEMORY_HOST))?;
    let after = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at as u64);
    refused("type after the end", after, Code::INVALID_VALUE)
}

fn register_twice(cx: &Cx) -> Outcome {
    let mut memory = pages();
    let at = aligned(&mut memory);
    // SAFETY: inside `memory`, which outlives the registration.
    unsafe { cx.host_register(at, 8192, 0) }?;
    // SAFETY: as above; it is refused.
    let again = unsafe { cx.host_register(at, 8192, 0) };
    cx.host_unregister(at)?;
    refused("again", again, Code::HOST_MEMORY_ALREADY_REGISTERED)
}

fn unknown(cx: &Cx) -> Outcome {
    let mut memory = pages();
    let at = aligned(&mut memory);
    refused("never registered", cx.host_unregister(at), Code::HOST_MEMORY_NOT_REGISTERED)
}

fn mixed(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(4096, 0)?;
    let unregistered = cx.host_unregister(host);
    // SAFETY: allocated above, used by nobody.
    unsafe { cx.host_free(host) }?;
    match unregistered {
        Err(Code::HOST_MEMORY_NOT_REGISTERED | Code::INVALID_VALUE) => Ok(()),
        other => refused("unregister", other, Code::HOST_MEMORY_NOT_REGISTERED),
    }
}
