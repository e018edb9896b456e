//! The functions of coldpress and of the simulator that a run can use, if they are there.

use cuda_client::{DevicePtr, Driver, Stream};
use std::ffi::{CString, c_char, c_void};
use std::process::{Command, Stdio};

/// The `coldpress` command, for `off` and `on`; without it these do nothing.
const COMMAND: &str = "CUDA_FUZZ_COLDPRESS";

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

/// The codes of coldpress.h.
pub mod status {
    #![allow(missing_docs, reason = "documented in coldpress.h")]
    pub const OK: i32 = 0;
    pub const INVALID: i32 = -1;
    pub const NOT_MANAGED: i32 = -2;
    pub const OUT_OF_MEMORY: i32 = -3;
    pub const PINNED: i32 = -4;
    pub const KEPT: i32 = -5;
    pub const BUSY: i32 = -6;
    pub const OFF: i32 = -7;
}

macro_rules! functions {
    ($($(#[$doc:meta])* $field:ident = $place:ident $name:literal: fn($($arg:ty),*) $(-> $out:ty)?;)*) => {
        /// What was found.
        #[derive(Clone, Copy, Debug)]
        pub struct Extras { $($(#[$doc])* $field: Option<unsafe extern "C" fn($($arg),*) $(-> $out)?>,)* }

        impl Extras {
            /// Looks everything up.
            pub fn find(driver: &Driver) -> Extras {
                Extras { $($field: {
                    let address = $place(driver, $name);
                    // SAFETY: the names are ours, with these signatures (coldpress.h, pytorch.md,
                    // the simulator's README); a null pointer becomes None.
                    unsafe {
                        std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($arg),*) $(-> $out)?>>(address)
                    }
                },)* }
            }
        }
    };
}

functions! {
    malloc = own "coldpress_malloc": fn(*mut DevicePtr, usize) -> i32;
    free = own "coldpress_free": fn(DevicePtr) -> i32;
    pin = own "coldpress_pin": fn(DevicePtr) -> i32;
    unpin = own "coldpress_unpin": fn(DevicePtr) -> i32;
    prefetch = own "coldpress_prefetch": fn(DevicePtr) -> i32;
    advise = own "coldpress_advise": fn(DevicePtr, i32) -> i32;
    evict = own "coldpress_evict": fn(DevicePtr, *const c_char, u32) -> i32;
    restore = own "coldpress_restore": fn(DevicePtr, *const c_char, u32) -> i32;
    tag_push = own "coldpress_tag_push": fn(*const c_char) -> i32;
    tag_pop = own "coldpress_tag_pop": fn() -> i32;
    stats = own "coldpress_stats": fn(*mut Report) -> i32;
    snapshot = own "coldpress_snapshot": fn(i32) -> i32;
    last_error = own "coldpress_last_error": fn() -> *const c_char;
    torch_malloc = own "coldpress_torch_malloc": fn(usize, i32, Stream) -> DevicePtr;
    torch_free = own "coldpress_torch_free": fn(DevicePtr, usize, i32, Stream);
    torch_record = own "coldpress_torch_record_stream": fn(DevicePtr, Stream);
    torch_fraction = own "coldpress_torch_memory_fraction": fn(f64, i32);
    torch_reset = own "coldpress_torch_reset": fn();
    peak = sim "simcuda_peak": fn(i32) -> u64;
    used = sim "simcuda_used": fn(i32) -> u64;
    faults = sim "simcuda_faults": fn() -> u64;
    reset_peak = sim "simcuda_reset_peak": fn(i32);
}

/// What `evict` and `restore` are asked for.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// One buffer.
    At(DevicePtr),
    /// Everything made under a tag.
    Tagged(&'a str),
    /// Everything.
    All,
}

impl What<'_> {
    fn call(self, function: unsafe extern "C" fn(DevicePtr, *const c_char, u32) -> i32) -> i32 {
        let tag = match self {
            What::Tagged(tag) => CString::new(tag).unwrap_or_default(),
            _ => CString::default(),
        };
        // SAFETY: an address, a live string or null, no flags.
        unsafe {
            match self {
                What::At(at) => function(at, std::ptr::null(), 0),
                What::Tagged(_) => function(0, tag.as_ptr(), 0),
                What::All => function(0, std::ptr::null(), 0),
            }
        }
    }
}

// SAFETY of the calls below: the functions take any address and check it; outputs are live locals.
impl Extras {
    /// True under coldpress.
    pub fn managed(&self) -> bool {
        self.stats.is_some()
    }

    /// `coldpress_malloc`; `None` without coldpress.
    pub fn malloc(&self, bytes: usize) -> Option<Result<DevicePtr, i32>> {
        let mut at = 0;
        // SAFETY: see above.
        match unsafe { self.malloc?(&mut at, bytes) } {
            0 => Some(Ok(at)),
            code => Some(Err(code)),
        }
    }

    /// `coldpress_free`.
    pub fn free(&self, at: DevicePtr) -> Option<i32> {
        // SAFETY: see above.
        Some(unsafe { self.free?(at) })
    }

    /// `coldpress_pin`.
    pub fn pin(&self, at: DevicePtr) -> Option<i32> {
        // SAFETY: see above.
        Some(unsafe { self.pin?(at) })
    }

    /// `coldpress_unpin`.
    pub fn unpin(&self, at: DevicePtr) -> Option<i32> {
        // SAFETY: see above.
        Some(unsafe { self.unpin?(at) })
    }

    /// `coldpress_prefetch`.
    pub fn prefetch(&self, at: DevicePtr) -> Option<i32> {
        // SAFETY: see above.
        Some(unsafe { self.prefetch?(at) })
    }

    /// `coldpress_advise`.
    pub fn advise(&self, at: DevicePtr, advice: i32) -> Option<i32> {
        // SAFETY: see above.
        Some(unsafe { self.advise?(at, advice) })
    }

    /// `coldpress_evict`.
    pub fn evict(&self, what: What<'_>) -> Option<i32> {
        Some(what.call(self.evict?))
    }

    /// `coldpress_restore`.
    pub fn restore(&self, what: What<'_>) -> Option<i32> {
        Some(what.call(self.restore?))
    }

    /// `coldpress_tag_push`.
    pub fn tag_push(&self, tag: &str) -> Option<i32> {
        let tag = CString::new(tag).unwrap_or_default();
        // SAFETY: a live string.
        Some(unsafe { self.tag_push?(tag.as_ptr()) })
    }

    /// `coldpress_tag_pop`.
    pub fn tag_pop(&self) -> Option<i32> {
        // SAFETY: no arguments.
        Some(unsafe { self.tag_pop?() })
    }

    /// What the last failed call said.
    pub fn last_error(&self) -> String {
        let Some(last) = self.last_error else { return String::new() };
        // SAFETY: a string that lives until this thread's next call.
        unsafe { std::ffi::CStr::from_ptr(last()) }.to_string_lossy().into_owned()
    }

    /// The live allocations that `coldpress_snapshot` lists.
    pub fn snapshot(&self) -> Option<Result<usize, String>> {
        let snapshot = self.snapshot?;
        // SAFETY: a new file of ours, read back after it was written and closed again.
        let text = unsafe {
            let fd = libc::memfd_create(c"snapshot".as_ptr(), libc::MFD_CLOEXEC);
            let code = snapshot(fd);
            let mut file = <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd);
            if code != 0 {
                return Some(Err(format!("snapshot answers {code}: {}", self.last_error())));
            }
            use std::io::{Read as _, Seek as _};
            let mut text = String::new();
            match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
                Ok(_) => text,
                Err(e) => return Some(Err(e.to_string())),
            }
        };
        Some(Ok(text.matches("\"address\":").count()))
    }

    /// `coldpress_torch_malloc`: null is no memory. `None` without coldpress.
    pub fn torch_malloc(&self, bytes: usize, device: i32, stream: Stream) -> Option<DevicePtr> {
        // SAFETY: see above.
        Some(unsafe { self.torch_malloc?(bytes, device, stream) })
    }

    /// `coldpress_torch_free`.
    pub fn torch_free(&self, at: DevicePtr, bytes: usize, device: i32, stream: Stream) {
        if let Some(free) = self.torch_free {
            // SAFETY: see above.
            unsafe { free(at, bytes, device, stream) }
        }
    }

    /// `coldpress_torch_record_stream`.
    pub fn torch_record(&self, at: DevicePtr, stream: Stream) {
        if let Some(record) = self.torch_record {
            // SAFETY: see above.
            unsafe { record(at, stream) }
        }
    }

    /// `coldpress_torch_memory_fraction`.
    pub fn torch_fraction(&self, share: f64, device: i32) {
        if let Some(fraction) = self.torch_fraction {
            // SAFETY: two numbers.
            unsafe { fraction(share, device) }
        }
    }

    /// `coldpress_torch_reset`: memory that is held ready goes back.
    pub fn torch_reset(&self) {
        if let Some(reset) = self.torch_reset {
            // SAFETY: no arguments.
            unsafe { reset() }
        }
    }

    /// `coldpress off` or `on` for this process; whether it was done. `None` without the command.
    pub fn switch(&self, off: bool) -> Option<bool> {
        self.stats?;
        let mut command = Command::new(std::env::var_os(COMMAND)?);
        command.arg(if off { "off" } else { "on" }).arg(std::process::id().to_string());
        command.env_remove("LD_PRELOAD").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().ok().map(|status| status.success())
    }

    /// What coldpress says of itself.
    pub fn stats(&self) -> Option<Report> {
        let mut report = Report { size: size_of::<Report>() as u32, ..Report::default() };
        // SAFETY: a live local whose size is in its first field.
        (unsafe { self.stats?(&mut report) } == 0).then_some(report)
    }

    /// The simulator's high-water mark of a card.
    pub fn peak(&self, card: usize) -> Option<u64> {
        // SAFETY: no preconditions.
        self.peak.map(|f| unsafe { f(card as i32) })
    }

    /// Forgets the high-water mark of what ran before.
    pub fn reset_peak(&self, card: usize) {
        if let Some(reset) = self.reset_peak {
            // SAFETY: no preconditions.
            unsafe { reset(card as i32) };
        }
    }

    /// What the simulator counts as in use on a card.
    pub fn used(&self, card: usize) -> Option<u64> {
        // SAFETY: no preconditions.
        self.used.map(|f| unsafe { f(card as i32) })
    }

    /// Faults of device work so far.
    pub fn faults(&self) -> u64 {
        // SAFETY: no preconditions.
        self.faults.map_or(0, |f| unsafe { f() })
    }
}

/// A function of coldpress.
fn own(driver: &Driver, name: &str) -> *mut c_void {
    driver.symbol(name)
}

/// A function of the simulator, which may be loaded under us (`SIMCUDA_LIBRARY` names its file).
fn sim(driver: &Driver, name: &str) -> *mut c_void {
    match driver.symbol(name) {
        found if found.is_null() => simulator(name),
        found => found,
    }
}

/// A symbol of the simulator that is loaded under us, or null.
pub fn simulator(name: &str) -> *mut c_void {
    loaded(name).unwrap_or(std::ptr::null_mut())
}

fn loaded(name: &str) -> Option<*mut c_void> {
    let path = CString::new(std::env::var("SIMCUDA_LIBRARY").ok()?).ok()?;
    let name = CString::new(name).ok()?;
    // SAFETY: C strings; a library that is loaded already only gets one more reference.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        (!library.is_null()).then(|| libc::dlsym(library, name.as_ptr()))
    }
}
