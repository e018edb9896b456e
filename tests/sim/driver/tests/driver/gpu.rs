//! The driver under test, and processes of its own for tests.

use cuda_client::{Code, Device, DevicePtr, Driver, Function, Grid, Lookup, Module, Stream};
use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// The kernels of the demo program.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.so"));
/// Every way of running streams.
pub const MODES: &[&str] =
    &["async", "eager", "lazy:3", "random:1", "random:77", "clocked:100000,5"];

const INSIDE: &str = "SIMULATOR_TEST";
const STARTED: &str = "the test's own process";
/// What a process does in a test of several.
pub const ROLE: &str = "SIMULATOR_TEST_ROLE";

/// The library that this test was built with: cargo puts it beside the test's own binary.
pub fn library() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.parent().expect("a folder").join("libsimcuda.so")
}

/// A loaded driver.
#[derive(Clone)]
pub struct Gpu(Driver);

impl std::ops::Deref for Gpu {
    type Target = Driver;
    fn deref(&self) -> &Driver {
        &self.0
    }
}

impl Gpu {
    /// Loads it, nothing more.
    pub fn load(lookup: Lookup) -> Gpu {
        Gpu(Driver::open(library().to_str().expect("text"), lookup).expect("it loads"))
    }

    /// Device 0 with its primary context current.
    pub fn started() -> Gpu {
        let gpu = Gpu::load(Lookup::Symbols);
        gpu.start(0).expect("it starts");
        gpu
    }

    /// A control function of the simulator.
    fn control<T: Copy>(&self, name: &str) -> T {
        let at = self.symbol(name);
        assert!(!at.is_null() && size_of::<T>() == size_of::<usize>(), "{name}");
        // SAFETY: a function pointer; the callers below know its type.
        unsafe { std::mem::transmute_copy(&at) }
    }

    pub fn peak(&self) -> u64 {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn(i32) -> u64>("simcuda_peak")(0) }
    }

    pub fn used(&self) -> u64 {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn(i32) -> u64>("simcuda_used")(0) }
    }

    pub fn faults(&self) -> u64 {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn() -> u64>("simcuda_faults")() }
    }

    pub fn is_mapped(&self, at: DevicePtr) -> bool {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn(u64) -> i32>("simcuda_is_mapped")(at) == 1 }
    }

    pub fn calls(&self, name: &str) -> u64 {
        let name = CString::new(name).expect("a name");
        type Calls = unsafe extern "C" fn(*const c_char) -> u64;
        // SAFETY: the exported signature, a terminated name.
        unsafe { self.control::<Calls>("simcuda_calls")(name.as_ptr()) }
    }

    /// How many there are of what the report lists under `leaks`.
    pub fn live(&self, what: &str) -> u64 {
        let what = CString::new(what).expect("a name");
        type Live = unsafe extern "C" fn(*const c_char) -> u64;
        // SAFETY: the exported signature, a terminated name.
        unsafe { self.control::<Live>("simcuda_live")(what.as_ptr()) }
    }

    /// The names of what was called so far, a line each.
    pub fn called(&self) -> String {
        type Called = unsafe extern "C" fn(*mut c_char, u64) -> u64;
        let called = self.control::<Called>("simcuda_called");
        // SAFETY: the exported signature; no room is written, then as much as there is.
        let n = unsafe { called(std::ptr::null_mut(), 0) };
        let mut text = vec![0u8; n as usize];
        // SAFETY: as above.
        let again = unsafe { called(text.as_mut_ptr().cast(), n) };
        assert_eq!(again, n);
        String::from_utf8(text).expect("names")
    }

    /// Adds rules of failure; an empty text removes all.
    pub fn fail(&self, spec: &str) {
        let text = CString::new(spec).expect("text");
        let spec = if spec.is_empty() { std::ptr::null() } else { text.as_ptr() };
        type Fail = unsafe extern "C" fn(*const c_char) -> i32;
        // SAFETY: the exported signature, null or a terminated text.
        assert_eq!(unsafe { self.control::<Fail>("simcuda_fail")(spec) }, 1);
    }

    /// Adds rules of corruption; an empty text removes all.
    pub fn flip(&self, spec: &str) {
        let text = CString::new(spec).expect("text");
        let spec = if spec.is_empty() { std::ptr::null() } else { text.as_ptr() };
        type Flip = unsafe extern "C" fn(*const c_char) -> i32;
        // SAFETY: the exported signature, null or a terminated text.
        assert_eq!(unsafe { self.control::<Flip>("simcuda_flip")(spec) }, 1);
    }

    /// Changes bytes of registered host memory; how many.
    pub fn flip_host(&self, at: u64, bytes: u64) -> u64 {
        type Flip = unsafe extern "C" fn(u64, u64) -> u64;
        // SAFETY: the exported signature; the memory is the test's own, which looks on.
        unsafe { self.control::<Flip>("simcuda_flip_host")(at, bytes) }
    }

    pub fn registered(&self) -> u64 {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn() -> u64>("simcuda_registered")() }
    }

    pub fn write_report(&self) {
        // SAFETY: the exported signature.
        unsafe { self.control::<unsafe extern "C" fn()>("simcuda_report")() }
    }

    /// The demo kernels as a module.
    pub fn kernels(&self) -> Module {
        // SAFETY: a whole image.
        unsafe { self.module_load(IMAGE) }.expect("it loads")
    }

    /// `out[i] = mix(seed + i)` for so many words.
    pub fn fill(
        &self,
        fill: impl Into<Function>,
        out: DevicePtr,
        words: u64,
        seed: u32,
        on: Stream,
    ) -> Result<(), Code> {
        let (mut out, mut words, mut seed) = (out, words, seed);
        let grid = Grid::cover(words as usize, 256);
        let mut params = [(&raw mut out).cast(), (&raw mut words).cast(), (&raw mut seed).cast()];
        // SAFETY: the parameters of the kernel cp_demo_fill.
        unsafe { self.launch(fill, grid, on, &mut params) }
    }

    /// A host function that appends a letter to a log.
    pub fn note(&self, on: Stream, log: &'static Log, letter: u8) {
        let data = Box::into_raw(Box::new((log, letter))).cast::<c_void>();
        // SAFETY: the box is what the function takes back.
        unsafe { self.launch_host_func(on, append, data) }.expect("queued");
    }

    /// Reserves, backs and opens a range.
    pub fn mapped(&self, bytes: usize, dev: Device) -> (DevicePtr, cuda_client::MemHandle) {
        let at = self.reserve(bytes, 0, 0).expect("addresses");
        let handle = self.create(bytes, dev).expect("memory");
        self.map(at, bytes, handle).expect("mapped");
        self.allow(at, bytes, dev).expect("access");
        (at, handle)
    }
}

/// `cp_demo_fill` on the host.
pub fn filled(words: u32, seed: u32) -> Vec<u32> {
    let mix = |x: u32| {
        let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
        let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
        x ^ x >> 16
    };
    (0..words).map(|i| mix(seed.wrapping_add(i))).collect()
}

/// What host functions wrote, in order.
#[derive(Default)]
pub struct Log(std::sync::Mutex<Vec<u8>>);

impl Log {
    pub fn new() -> &'static Log {
        Box::leak(Box::default())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panics")).into_owned()
    }
}

unsafe extern "C" fn append(data: *mut c_void) {
    // SAFETY: made by `note`, taken back once.
    let (log, letter) = *unsafe { Box::from_raw(data.cast::<(&Log, u8)>()) };
    log.0.lock().expect("no panics").push(letter);
}

/// The process that runs `body` of the calling test with these settings; `None` inside it.
fn child<F>(settings: &[(&str, &str)], _body: &F) -> Option<Command> {
    let name = std::any::type_name::<F>();
    let test = name.split_once("::").expect("a module").1.split("::{{closure}}").next();
    let test = test.expect("a test");
    let key = format!("{test} {settings:?}");
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SIMCUDA_") {
            command.env_remove(name);
        }
    }
    command.env(INSIDE, key).envs(settings.iter().copied());
    Some(command)
}

fn is_inside<F>(settings: &[(&str, &str)], _body: &F) -> bool {
    let name = std::any::type_name::<F>();
    std::env::var(INSIDE).is_ok_and(|key| {
        let test = name.split_once("::").expect("a module").1;
        key.split(' ').next().is_some_and(|t| test.starts_with(t))
            && key.ends_with(&format!(" {settings:?}"))
    })
}

/// Runs `body` in a process of its own with these settings; fails if it does. Says whether this is
/// the process that waited for it.
pub fn alone(settings: &[(&str, &str)], body: impl Fn()) -> bool {
    let (status, text) = status_of(settings, body);
    if let Some(status) = status {
        assert!(status.success(), "{settings:?}: {status}\n{text}");
    }
    status.is_some()
}

/// Runs `body` in a process of its own; how it ended, and what it wrote. `None` inside.
pub fn status_of<F: Fn()>(settings: &[(&str, &str)], body: F) -> (Option<ExitStatus>, String) {
    let Some(mut command) = child(settings, &body) else {
        if is_inside(settings, &body) {
            println!("{STARTED}");
            // Who waits for ever has failed too.
            // SAFETY: no preconditions; the signal ends this process, which is only this test's.
            unsafe { libc::alarm(60) };
            body();
        }
        return (None, String::new());
    };
    let output = command.output().expect("it starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains(STARTED), "the test did not find itself: {text}");
    (Some(output.status), text)
}

/// This process again, in another role of the same test.
pub fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(std::env::args_os().skip(1)).env(ROLE, role);
    command
}

/// A path for a file of one test; every process of the test gets the same.
pub fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("simulator-{name}"));
    let _ = std::fs::remove_file(&path);
    path.to_str().expect("text").to_owned()
}

/// A file of JSON.
pub fn json(path: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}
