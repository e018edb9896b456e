//! The demo kernels, loaded from their CPU image, and launches of them.

use cuda_client::{Code, DevicePtr, Driver, Extra, Function, Grid, Module, Stream};
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

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// An address or a length.
    Wide(u64),
    /// A 32-bit number.
    Narrow(u32),
    /// The whole structure.
    Blend(BlendArgs),
}

/// How a launch is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `cuLaunchKernel` with pointers to the parameters.
    Pointers,
    /// `cuLaunchKernel` with packed parameters.
    Packed,
    /// `cuLaunchKernelEx`.
    Extended,
    /// `cuLaunchCooperativeKernel`.
    Cooperative,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 4] = [Form::Pointers, Form::Packed, Form::Extended, Form::Cooperative];
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
        form: Form,
        stream: Stream,
        words: usize,
        args: &[Arg],
    ) -> Result<(), Code> {
        let function = self.functions[kernel as usize];
        let grid = Grid::cover(words, 128);
        let mut params: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Wide(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Narrow(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Blend(value) => std::ptr::from_ref(value).cast_mut().cast(),
            })
            .collect();
        // SAFETY: one pointer to a live value a parameter, of the kernel's types; the packed form
        // has them at their natural alignment, as the kernels declare them.
        unsafe {
            match (form, packed(args)) {
                (Form::Packed, Some(extra)) => driver.launch_extra(function, grid, stream, &extra),
                (Form::Extended, _) => driver.launch_ex(function, grid, stream, &mut params),
                (Form::Cooperative, _) => {
                    driver.launch_cooperative(function, grid, stream, &mut params)
                }
                _ => driver.launch(function, grid, stream, &mut params),
            }
        }
    }

    /// Unloads them.
    pub fn unload(&self, driver: &Driver) -> Result<(), Code> {
        driver.module_unload(self.module)
    }
}

/// The parameters in one piece, unless one is a structure.
fn packed(args: &[Arg]) -> Option<Extra> {
    args.iter().try_fold(Extra::default(), |extra, arg| match *arg {
        Arg::Wide(value) => Some(extra.push(value)),
        Arg::Narrow(value) => Some(extra.push(value)),
        Arg::Blend(_) => None,
    })
}
