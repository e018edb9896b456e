//! The functions of coldpress and of the simulator that a run can use, if they are there.

use cuda_client::{DevicePtr, Driver};
use std::ffi::{CString, c_char, c_void};

type Evict = unsafe extern "C" fn(*const c_void, *const c_char, u32) -> i32;
type Stats = unsafe extern "C" fn(*mut Report) -> i32;
type OfDevice = unsafe extern "C" fn(i32) -> u64;
type ResetPeak = unsafe extern "C" fn(i32);
type Count = unsafe extern "C" fn() -> u64;

/// `coldpress_stats_t`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "documented in coldpress.h")]
pub struct Report {
    pub size: u32,
    pub version: u32,
    pub devices: u32,
    pub eviction_off: u32,
    pub allocations: u64,
    pub frees: u64,
    pub logical_bytes: u64,
    pub resident_bytes: u64,
    pub spilled_bytes: u64,
    pub pinned_bytes: u64,
    pub charged_bytes: u64,
    pub peak_bytes: u64,
    pub limit_bytes: u64,
    pub host_bytes: u64,
    pub launches: u64,
    pub launch_waits: u64,
    pub launch_wait_ns: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub restores: u64,
    pub restored_bytes: u64,
    pub verified_bytes: u64,
    pub verify_failures: u64,
    pub oom_avoided: u64,
    pub oom_returned: u64,
    pub over_limit: u64,
    pub rest: [u64; 15],
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    evict: Option<Evict>,
    restore: Option<Evict>,
    stats: Option<Stats>,
    peak: Option<OfDevice>,
    used: Option<OfDevice>,
    faults: Option<Count>,
    reset_peak: Option<ResetPeak>,
}

impl Extras {
    /// Looks everything up.
    pub fn find(driver: &Driver) -> Extras {
        let own = |name: &str| driver.symbol(name);
        let sim = |name: &str| match own(name) {
            found if found.is_null() => simulator(name),
            found => found,
        };
        // SAFETY: the names are ours, with these signatures (coldpress.h, the simulator's README);
        // a null pointer becomes None.
        unsafe {
            Extras {
                evict: std::mem::transmute::<*mut c_void, Option<Evict>>(own("coldpress_evict")),
                restore: std::mem::transmute::<*mut c_void, Option<Evict>>(own(
                    "coldpress_restore",
                )),
                stats: std::mem::transmute::<*mut c_void, Option<Stats>>(own("coldpress_stats")),
                peak: std::mem::transmute::<*mut c_void, Option<OfDevice>>(sim("simcuda_peak")),
                used: std::mem::transmute::<*mut c_void, Option<OfDevice>>(sim("simcuda_used")),
                faults: std::mem::transmute::<*mut c_void, Option<Count>>(sim("simcuda_faults")),
                reset_peak: std::mem::transmute::<*mut c_void, Option<ResetPeak>>(sim(
                    "simcuda_reset_peak",
                )),
            }
        }
    }

    /// Asks for the eviction of one buffer, or of everything. Refusals are fine.
    pub fn evict(&self, at: Option<DevicePtr>) {
        if let Some(evict) = self.evict {
            // SAFETY: an address or null, no tag, no flags.
            unsafe { evict(at.unwrap_or(0) as *const c_void, std::ptr::null(), 0) };
        }
    }

    /// Asks for a restore.
    pub fn restore(&self, at: Option<DevicePtr>) {
        if let Some(restore) = self.restore {
            // SAFETY: as above.
            unsafe { restore(at.unwrap_or(0) as *const c_void, std::ptr::null(), 0) };
        }
    }

    /// What coldpress says of itself.
    pub fn stats(&self) -> Option<Report> {
        let mut report = Report { size: size_of::<Report>() as u32, ..Report::default() };
        // SAFETY: a live local whose size is in its first field.
        (unsafe { self.stats?(&mut report) } == 0).then_some(report)
    }

    /// The simulator's high-water mark.
    pub fn peak(&self) -> Option<u64> {
        // SAFETY: no preconditions.
        self.peak.map(|f| unsafe { f(0) })
    }

    /// Forgets the high-water mark of what ran before.
    pub fn reset_peak(&self) {
        if let Some(reset) = self.reset_peak {
            // SAFETY: no preconditions.
            unsafe { reset(0) };
        }
    }

    /// What the simulator counts as in use.
    pub fn used(&self) -> Option<u64> {
        // SAFETY: no preconditions.
        self.used.map(|f| unsafe { f(0) })
    }

    /// Faults of device work so far.
    pub fn faults(&self) -> u64 {
        // SAFETY: no preconditions.
        self.faults.map_or(0, |f| unsafe { f() })
    }
}

/// A symbol of the simulator, which may be loaded under us (`SIMCUDA_LIBRARY` names its file).
pub fn simulator(name: &str) -> *mut c_void {
    let Ok(path) = std::env::var("SIMCUDA_LIBRARY") else { return std::ptr::null_mut() };
    let (Ok(path), Ok(name)) = (CString::new(path), CString::new(name)) else {
        return std::ptr::null_mut();
    };
    // SAFETY: C strings; a library that is loaded already only gets one more reference.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() { std::ptr::null_mut() } else { libc::dlsym(library, name.as_ptr()) }
    }
}
