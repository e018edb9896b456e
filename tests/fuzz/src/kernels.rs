//! The demo kernels, loaded from their CPU image, and launches of them.

use cuda_client::{Code, DevicePtr, Driver, Function, Grid, Module, Stream};
use std::ffi::c_void;

static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.so"));

/// Names in the order of [`Kernel`].
const NAMES: [&str; 7] = [
    "cp_demo_fill",
    "cp_demo_axpy",
    "cp_demo_rotate",
    "cp_demo_gather",
    "cp_demo_fan_in",
    "cp_demo_blend",
    "cp_demo_from_global",
];

/// Which one.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see kernels/demo/demo.cu")]
pub enum Kernel {
    Fill,
    Axpy,
    Rotate,
    Gather,
    FanIn,
    Blend,
    FromGlobal,
}

/// What `cp_demo_blend` takes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see kernels/demo/demo.cu")]
pub struct BlendArgs {
    pub key: u32,
    pub a: DevicePtr,
    pub b: DevicePtr,
    pub b_words: u64,
    pub out: DevicePtr,
    pub words: u64,
    pub shift: u8,
}

/// The loaded module.
#[derive(Debug)]
pub struct Kernels {
    module: Module,
    functions: Vec<Function>,
    /// Where `cp_demo_from_global` finds its buffer.
    pub global: DevicePtr,
}

impl Kernels {
    /// Loads them into the current context.
    pub fn load(driver: &Driver) -> Result<Kernels, Code> {
        // SAFETY: a whole image made by the build script.
        let module = unsafe { driver.module_load(IMAGE) }?;
        let functions =
            NAMES.iter().map(|n| driver.function(module, n)).collect::<Result<Vec<_>, _>>()?;
        let (global, _) = driver.module_global(module, "cp_demo_shared_row")?;
        Ok(Kernels { module, functions, global })
    }

    /// Launches one for `words` threads.
    pub fn launch(
        &self,
        driver: &Driver,
        kernel: Kernel,
        stream: Stream,
        words: usize,
        params: &mut [*mut c_void],
    ) -> Result<(), Code> {
        let function = self.functions[kernel as usize];
        // SAFETY: the caller passes one pointer to a live value a parameter.
        unsafe { driver.launch(function, Grid::cover(words, 128), stream, params) }
    }

    /// Unloads them.
    pub fn unload(&self, driver: &Driver) -> Result<(), Code> {
        driver.module_unload(self.module)
    }
}
