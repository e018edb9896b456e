//! The program's kernels: the image, and launches with their parameters.

use crate::error::{During, Error, Result};
use cuda_client::{Code, DevicePtr, Driver, Extra, Function, Grid, Module, Stream};
use std::ffi::{CString, c_void};

/// For a real driver.
const PTX: &str = include_str!("../../../../kernels/demo/demo.ptx");
/// The same kernels for the CPU: only the simulated driver takes them.
static CPU: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.so"));

const THREADS: u32 = 256;

/// One value of a launch, held where the driver will read it.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    /// A pointer or a count of words.
    Wide(u64),
    /// A plain 32-bit value.
    Word(u32),
}

/// The structure `cp_demo_blend` takes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Blend {
    /// XORed into `a`.
    pub key: u32,
    /// At least `words` long.
    pub a: DevicePtr,
    /// Any length.
    pub b: DevicePtr,
    /// Its length.
    pub b_words: u64,
    /// Written.
    pub out: DevicePtr,
    /// Its length.
    pub words: u64,
    /// Rotation of `b`.
    pub shift: u8,
}

/// The ways to hand parameters to a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `cuLaunchKernel` with an array of pointers.
    Pointers,
    /// `cuLaunchKernel` with one packed buffer.
    Packed,
    /// `cuLaunchKernelEx`.
    Config,
}

/// Which image the driver took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// PTX, on a real driver.
    Ptx,
    /// The CPU build, on the simulated one.
    Cpu,
}

/// The loaded module.
#[derive(Debug)]
pub struct Kernels {
    /// What was loaded.
    pub image: Image,
    module: Module,
    fill: Function,
    axpy: Function,
    rotate: Function,
    digest: Function,
    gather: Function,
    fan_in: Function,
    blend: Function,
    numbers: Function,
    from_global: Function,
}

/// A kernel by name.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    Fill,
    Axpy,
    Rotate,
    Digest,
    Gather,
    FanIn,
    FromGlobal,
    Numbers,
}

impl Kernels {
    /// Loads the PTX, or where the driver does not take PTX, the CPU image.
    pub fn load(driver: &Driver) -> Result<Kernels> {
        let ptx = CString::new(PTX).during("the PTX image")?;
        // SAFETY: PTX ends at its terminating zero.
        let (module, image) = match unsafe { driver.module_load(ptx.as_bytes_with_nul()) } {
            Ok(module) => (module, Image::Ptx),
            Err(
                why @ (Code::INVALID_IMAGE | Code::INVALID_PTX | Code::UNSUPPORTED_PTX_VERSION),
            ) => {
                // SAFETY: an ELF file says where it ends.
                let module = unsafe { driver.module_load(CPU) }.map_err(|cpu| {
                    Error::new(format!("load the kernels: as PTX {why}, as CPU image {cpu}"))
                })?;
                (module, Image::Cpu)
            }
            Err(why) => return Err(Error::new(format!("load the kernels: {why}"))),
        };
        let find = |name: &str| driver.function(module, name).during(name);
        Ok(Kernels {
            image,
            module,
            fill: find("cp_demo_fill")?,
            axpy: find("cp_demo_axpy")?,
            rotate: find("cp_demo_rotate")?,
            digest: find("cp_demo_digest")?,
            gather: find("cp_demo_gather")?,
            fan_in: find("cp_demo_fan_in")?,
            blend: find("cp_demo_blend")?,
            numbers: find("cp_demo_numbers")?,
            from_global: find("cp_demo_from_global")?,
        })
    }

    /// The module global that holds a pointer and a count of words.
    pub fn shared_row(&self, driver: &Driver) -> Result<DevicePtr> {
        let name = "cp_demo_shared_row";
        let (at, size) = driver.module_global(self.module, name).during(name)?;
        if size != 16 {
            return Err(Error::new(format!("{name}: {size} bytes, not 16")));
        }
        Ok(at)
    }

    /// Unloads the module; nothing may be running.
    pub fn unload(&self, driver: &Driver) -> Result<()> {
        driver.module_unload(self.module).during("unload the kernels")
    }

    /// Launches `kernel`, one thread for each of `words`.
    pub fn launch(
        &self,
        driver: &Driver,
        kernel: Kernel,
        words: u64,
        args: &[Arg],
        form: Form,
        stream: Stream,
    ) -> cuda_client::Result<()> {
        let function = match kernel {
            Kernel::Fill => self.fill,
            Kernel::Axpy => self.axpy,
            Kernel::Rotate => self.rotate,
            Kernel::Digest => self.digest,
            Kernel::Gather => self.gather,
            Kernel::FanIn => self.fan_in,
            Kernel::FromGlobal => self.from_global,
            Kernel::Numbers => self.numbers,
        };
        let grid = Grid::cover(words as usize, THREADS);
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Wide(value) => (&raw const *value).cast_mut().cast(),
                Arg::Word(value) => (&raw const *value).cast_mut().cast(),
            })
            .collect();
        let packed = args.iter().fold(Extra::default(), |extra, arg| match *arg {
            Arg::Wide(value) => extra.push(value),
            Arg::Word(value) => extra.push(value),
        });
        // The callers in `ops` pass each kernel the parameters of its definition in
        // kernels/demo/demo.cu.
        match form {
            // SAFETY: the parameters are the kernel's, and `args` outlives the call.
            Form::Pointers => unsafe { driver.launch(function, grid, stream, &mut pointers) },
            // SAFETY: the kernel's parameters, packed at their natural alignment.
            Form::Packed => unsafe { driver.launch_extra(function, grid, stream, &packed) },
            // SAFETY: as the first.
            Form::Config => unsafe { driver.launch_ex(function, grid, stream, &mut pointers) },
        }
    }

    /// Launches `cp_demo_blend`.
    pub fn blend(&self, driver: &Driver, args: Blend, stream: Stream) -> cuda_client::Result<()> {
        let grid = Grid::cover(args.words as usize, THREADS);
        // SAFETY: the one parameter is this structure, as the kernel defines it.
        unsafe { driver.launch(self.blend, grid, stream, cuda_client::params![args]) }
    }
}
