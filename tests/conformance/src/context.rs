//! What every case works with: the driver, a context, kernels, and things that clean up after
//! themselves.
//!
//! Owns the only knowledge of which driver this is: the image that the kernels come from, and
//! which questions a mode of the simulator cannot answer.

use crate::case::Stop;
use cuda_client::{
    Context, Device, DevicePtr, Driver, Event, Function, Grid, Lookup, MemHandle, Module, Stream,
    flag,
};
use std::ffi::c_void;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static PTX: &str = concat!(include_str!("../../../kernels/demo/demo.ptx"), "\0");
static CPU: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.so"));

/// Longest that anything is held back; then the gate opens by itself and the case fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A driver with a current context.
#[derive(Debug)]
pub struct Cx {
    /// The driver.
    pub driver: Driver,
    /// Device 0.
    pub device: Device,
    /// Its primary context, current.
    pub context: Context,
    simulated: bool,
    module: OnceLock<Module>,
}

impl Deref for Cx {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl Cx {
    /// Loads and initialises the driver the loader finds.
    pub fn start(lookup: Lookup) -> Result<Cx, Stop> {
        let driver = Driver::open("libcuda.so.1", lookup)?;
        let (device, context) = driver.start(0)?;
        // By the card's name: with coldpress in between the driver's own symbols are out of reach.
        let simulated = driver.device_name(device)?.starts_with("Simulated");
        Ok(Cx { driver, device, context, simulated, module: OnceLock::new() })
    }

    /// Whether the card is the simulator's.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// The same device through another table of functions.
    pub fn other(&self, lookup: Lookup) -> Result<Cx, Stop> {
        Cx::start(lookup)
    }

    /// The kernels of `kernels/demo`.
    pub fn module(&self) -> Result<Module, Stop> {
        if let Some(&module) = self.module.get() {
            return Ok(module);
        }
        let module = self.load_module()?;
        Ok(*self.module.get_or_init(|| module))
    }

    /// Another module of the same kernels, the caller's to unload.
    pub fn load_module(&self) -> Result<Module, Stop> {
        // SAFETY: an ELF with its own length, or text that ends with a zero.
        Ok(unsafe { self.module_load(self.image()) }?)
    }

    /// The image the driver takes.
    pub fn image(&self) -> &'static [u8] {
        if self.is_simulated() { CPU } else { PTX.as_bytes() }
    }

    /// One of the kernels.
    pub fn demo(&self, name: &str) -> Result<Function, Stop> {
        Ok(self.function(self.module()?, name)?)
    }

    /// The granularity of device memory.
    pub fn granule(&self) -> Result<usize, Stop> {
        Ok(self.granularity(self.device)?)
    }

    /// Device memory that frees itself.
    pub fn buffer(&self, bytes: usize) -> Result<Buffer<'_>, Stop> {
        Ok(Buffer { at: self.mem_alloc(bytes)?, driver: &self.driver })
    }

    /// A stream that destroys itself.
    pub fn stream(&self, flags: u32) -> Result<OwnStream<'_>, Stop> {
        Ok(OwnStream { stream: self.stream_create(flags)?, driver: &self.driver })
    }

    /// An event that destroys itself.
    pub fn event(&self) -> Result<OwnEvent<'_>, Stop> {
        let event = self.event_create(flag::EVENT_DISABLE_TIMING)?;
        Ok(OwnEvent { event, driver: &self.driver })
    }

    /// Mapped memory in a reservation of its own, `granules` long.
    pub fn mapping(&self, granules: usize) -> Result<Mapping<'_>, Stop> {
        let bytes = granules * self.granule()?;
        let at = self.reserve(bytes, 0, 0)?;
        let handle = self.create(bytes, self.device)?;
        self.map(at, bytes, handle)?;
        self.allow(at, bytes, self.device)?;
        Ok(Mapping { at, bytes, handle, driver: &self.driver })
    }

    /// How the simulator runs streams; `None` on a card.
    fn stream_mode(&self) -> Option<String> {
        let mode = || std::env::var("SIMCUDA_STREAMS").unwrap_or_else(|_| "async".to_owned());
        self.is_simulated().then(mode)
    }

    /// Holds a stream back until the gate opens.
    pub fn hold(&self, stream: Stream) -> Result<Gate, Stop> {
        if self.stream_mode().is_some_and(|m| m == "eager") {
            return Err(Stop::skip("work runs at its submission in this mode"));
        }
        let gate = Gate { state: Arc::new((Mutex::new(false), Condvar::new())) };
        let data = Arc::into_raw(gate.state.clone()).cast_mut().cast::<c_void>();
        // SAFETY: the function takes over the reference that `into_raw` gave.
        unsafe { self.launch_host_func(stream, wait_at_gate, data) }?;
        Ok(gate)
    }

    /// For cases in which one stream must get on while another is held.
    pub fn streams_are_independent(&self) -> Result<(), Stop> {
        match self.stream_mode() {
            Some(mode) if mode.starts_with("random") => {
                Err(Stop::skip("one thread runs all streams in this mode"))
            }
            _ => Ok(()),
        }
    }

    /// Fills `words` words of device memory through a kernel with `mix(seed + i)`.
    pub fn fill(&self, at: DevicePtr, words: u64, seed: u32, on: Stream) -> Result<(), Stop> {
        let kernel = self.demo("cp_demo_fill")?;
        // SAFETY: the kernel's three parameters, in order and of its types.
        unsafe {
            self.launch(
                kernel,
                Grid::cover(words as usize, 256),
                on,
                cuda_client::params!(at, words, seed),
            )
        }?;
        Ok(())
    }
}

/// The bijection of `cp_demo_fill`.
pub fn mix(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

/// Whether `ready` becomes true soon.
pub fn soon(mut ready: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

type GateState = (Mutex<bool>, Condvar);

/// Keeps a stream from passing; opens when dropped.
#[derive(Debug)]
pub struct Gate {
    state: Arc<GateState>,
}

fn locked(state: &GateState) -> MutexGuard<'_, bool> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn wait_at_gate(data: *mut c_void) {
    // SAFETY: the reference given away by `Cx::hold`, used once.
    let state = unsafe { Arc::from_raw(data.cast_const().cast::<GateState>()) };
    let open = locked(&state);
    drop(state.1.wait_timeout_while(open, PATIENCE, |open| !*open));
}

impl Gate {
    /// Lets the stream pass.
    pub fn open(&self) {
        *locked(&self.state) = true;
        self.state.1.notify_all();
    }

    /// Lets the stream pass after a while, whatever this thread is waiting for by then.
    pub fn open_after(self, delay: Duration) {
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            self.open();
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// Device memory that frees itself.
#[derive(Debug)]
pub struct Buffer<'a> {
    /// Its address.
    pub at: DevicePtr,
    driver: &'a Driver,
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let _ = self.driver.mem_free(self.at);
    }
}

/// A stream that destroys itself.
#[derive(Debug)]
pub struct OwnStream<'a> {
    stream: Stream,
    driver: &'a Driver,
}

impl Deref for OwnStream<'_> {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for OwnStream<'_> {
    fn drop(&mut self) {
        let _ = self.driver.stream_destroy(self.stream);
    }
}

/// An event that destroys itself.
#[derive(Debug)]
pub struct OwnEvent<'a> {
    event: Event,
    driver: &'a Driver,
}

impl Deref for OwnEvent<'_> {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Drop for OwnEvent<'_> {
    fn drop(&mut self) {
        let _ = self.driver.event_destroy(self.event);
    }
}

/// A reservation with one handle mapped over all of it.
#[derive(Debug)]
pub struct Mapping<'a> {
    /// Its address.
    pub at: DevicePtr,
    /// Its size.
    pub bytes: usize,
    /// What is mapped.
    pub handle: MemHandle,
    driver: &'a Driver,
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // A case may have undone a part already; what is gone is refused.
        let _ = self.driver.unmap(self.at, self.bytes);
        let _ = self.driver.release(self.handle);
        let _ = self.driver.address_free(self.at, self.bytes);
    }
}
