//! What happened: high-water marks, leaks, faults, calls. As JSON at exit, and through control
//! symbols.

use crate::{card, entry, loaded, memory, settings, sim, space, stream};
use parking_lot::Mutex;
use std::ffi::{CStr, c_char};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FAULTS: Mutex<Vec<(u64, String, usize)>> = Mutex::new(Vec::new());
/// Calls that named a context that had ended.
static DESTROYED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Device work touched an address it may not.
pub fn fault(address: u64, what: &str, stream: usize) {
    FAULTS.lock().push((address, what.to_owned(), stream));
}

/// The present call names a context that has ended: a real driver ends the process in it.
pub fn destroyed_context() {
    DESTROYED.lock().push(entry::name());
    if !settings::get().survives_destroyed {
        eprintln!("simcuda: {} of a context that has been destroyed", entry::name());
        simcuda_report();
        // SAFETY: the process is to end, in the way that a real driver ends it.
        unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::raise(libc::SIGSEGV);
        }
    }
}

/// A kernel was launched.
pub fn launched() {
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
}

/// Writes the report when the process ends.
pub fn at_exit() {
    extern "C" fn write() {
        if sim::owner() == std::process::id() {
            simcuda_report();
        }
    }
    static ONCE: Once = Once::new();
    // SAFETY: the handler takes nothing and unwinds never.
    ONCE.call_once(|| unsafe {
        libc::atexit(write);
    });
}

/// What was made and has not gone, by name.
fn live(what: &str) -> Option<usize> {
    let own = || space::SPACE.lock().programs_own();
    Some(match what {
        "handles" => crate::api::vmm::live_handles().len(),
        "mappings" => own().1.len(),
        "reservations" => own().0,
        "streams" => stream::live(),
        "events" => stream::live_events(),
        "host_allocations" => memory::live_host(),
        "allocations" => memory::live(),
        "modules" => loaded::live(),
        _ => return None,
    })
}

/// What `live` knows.
const LIVE: [&str; 8] = [
    "handles",
    "mappings",
    "reservations",
    "streams",
    "events",
    "host_allocations",
    "allocations",
    "modules",
];

fn document() -> serde_json::Value {
    let (reservations, mappings) = space::SPACE.lock().programs_own();
    // Addresses belong to no card; the first one stands for all.
    let reserved = |card| if card == 0 { reservations } else { 0 };
    let handles = crate::api::vmm::live_handles();
    let devices: Vec<_> = (0..card::all().len())
        .map(|i| {
            serde_json::json!({
                "peak_bytes": card::peak(i),
                "used_bytes": card::used_here(i),
                "live_handles": handles.iter().filter(|&&d| d == i).count(),
                "live_mappings": mappings.iter().filter(|&&d| d == i).count(),
                "live_reservations": reserved(i),
            })
        })
        .collect();
    let faults: Vec<_> = FAULTS
        .lock()
        .iter()
        .map(|(address, what, stream)| {
            serde_json::json!({"address": address, "kernel": what, "stream": stream})
        })
        .collect();
    let leaks: serde_json::Map<_, _> =
        LIVE.iter().map(|&what| (what.to_owned(), live(what).into())).collect();
    let calls: serde_json::Map<_, _> =
        entry::counts().into_iter().map(|(n, c)| (n.to_owned(), c.into())).collect();
    serde_json::json!({
        "schema": "simcuda.report",
        "version": 1,
        "pid": std::process::id(),
        "devices": devices,
        "leaks": leaks,
        "launches": LAUNCHES.load(Ordering::Relaxed),
        "faults": faults,
        "destroyed_contexts": *DESTROYED.lock(),
        "calls": calls,
    })
}

/// Writes the report now.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_report() {
    let Some(path) = &settings::get().report else { return };
    let path = path.replace("%p", &std::process::id().to_string());
    if let Err(e) = std::fs::write(&path, format!("{:#}\n", document())) {
        eprintln!("simcuda: no report: {path}: {e}");
    }
}

/// Most physical bytes ever in use on a card.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_peak(device: i32) -> u64 {
    card::peak(device as usize)
}

/// Physical bytes in use on a card.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_used(device: i32) -> u64 {
    card::used(device as usize)
}

/// Starts the high-water mark anew.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_reset_peak(device: i32) {
    card::reset_peak(device as usize);
}

/// Faults so far.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_faults() -> u64 {
    FAULTS.lock().len() as u64
}

/// Whether device work may touch an address.
#[unsafe(no_mangle)]
pub extern "C" fn simcuda_is_mapped(at: u64) -> i32 {
    i32::from(space::SPACE.lock().accessible(at, 1))
}

/// Calls of a function so far.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simcuda_calls(name: *const c_char) -> u64 {
    // SAFETY: as promised.
    let name = unsafe { CStr::from_ptr(name) };
    let counts = entry::counts();
    counts.iter().find(|(n, _)| n.as_bytes() == name.to_bytes()).map_or(0, |(_, c)| *c)
}

/// The names of all functions that were called so far, a line each, into `room` bytes at `names`;
/// how many bytes that takes.
///
/// # Safety
/// `room` bytes at `names` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simcuda_called(names: *mut c_char, room: u64) -> u64 {
    let text: String = entry::counts().into_iter().map(|(name, _)| format!("{name}\n")).collect();
    let n = text.len().min(room as usize);
    // SAFETY: as promised, and the text is a string of its own.
    unsafe { names.copy_from_nonoverlapping(text.as_ptr().cast(), n) };
    text.len() as u64
}

/// How many there are now of what the report lists under `leaks`; all ones for what it does not.
///
/// # Safety
/// `what` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simcuda_live(what: *const c_char) -> u64 {
    // SAFETY: as promised.
    let what = unsafe { CStr::from_ptr(what) };
    live(&what.to_string_lossy()).map_or(u64::MAX, |n| n as u64)
}

/// Adds failure rules at run time; null removes all. 1 if understood.
///
/// # Safety
/// `spec` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simcuda_fail(spec: *const c_char) -> i32 {
    if spec.is_null() {
        return i32::from(entry::add_failures(None));
    }
    // SAFETY: as promised.
    let spec = unsafe { CStr::from_ptr(spec) }.to_string_lossy();
    i32::from(entry::add_failures(Some(&spec)))
}
