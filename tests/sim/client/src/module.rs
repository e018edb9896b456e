//! Modules, libraries, kernels and launches.

use crate::{
    DevicePtr, Driver, Function, Kernel, LaunchConfig, Library, Module, Result, Stream, call, flag,
    terminated, text_of,
};
use std::ffi::c_void;

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Dynamic shared memory.
    pub shared_bytes: u32,
}

impl Grid {
    /// One-dimensional, without shared memory.
    pub fn line(blocks: u32, threads: u32) -> Self {
        Self { blocks: [blocks, 1, 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }

    /// Enough blocks of `threads` for `items`, at least one.
    pub fn cover(items: usize, threads: u32) -> Self {
        Self::line((items as u64).div_ceil(u64::from(threads)).max(1) as u32, threads)
    }
}

/// Packed parameters for the `extra` form of a launch.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    bytes: Vec<u8>,
}

impl Extra {
    /// Appends a value at its natural alignment.
    pub fn push<T: crate::copy::Plain>(mut self, value: T) -> Self {
        let size = size_of::<T>();
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
        // SAFETY: a plain value is readable as its bytes.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const value).cast::<u8>(), size) };
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Driver {
    /// `cuModuleLoadData`.
    ///
    /// # Safety
    /// `image` is what the driver takes: it finds the end by the image's own headers, or, for
    /// text, by a terminating zero.
    pub unsafe fn module_load(&self, image: &[u8]) -> Result<Module> {
        let mut module = Module::NULL;
        call!(self.cuModuleLoadData(&mut module, image.as_ptr().cast()))?;
        Ok(module)
    }

    /// `cuModuleLoadDataEx` without options.
    ///
    /// # Safety
    /// As [`Driver::module_load`].
    pub unsafe fn module_load_ex(&self, image: &[u8]) -> Result<Module> {
        let mut module = Module::NULL;
        call!(self.cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast(),
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut()
        ))?;
        Ok(module)
    }

    /// `cuModuleLoad` of a file.
    pub fn module_load_file(&self, path: &str) -> Result<Module> {
        let (mut module, path) = (Module::NULL, terminated(path)?);
        call!(self.cuModuleLoad(&mut module, path.as_ptr()))?;
        Ok(module)
    }

    /// `cuModuleUnload`.
    pub fn module_unload(&self, module: Module) -> Result<()> {
        call!(self.cuModuleUnload(module))
    }

    /// `cuModuleGetFunction`.
    pub fn function(&self, module: Module, name: &str) -> Result<Function> {
        let (mut function, name) = (Function::NULL, terminated(name)?);
        call!(self.cuModuleGetFunction(&mut function, module, name.as_ptr()))?;
        Ok(function)
    }

    /// `cuModuleGetGlobal`: address and size.
    pub fn module_global(&self, module: Module, name: &str) -> Result<(DevicePtr, usize)> {
        let (mut at, mut size, name) = (0, 0, terminated(name)?);
        call!(self.cuModuleGetGlobal(&mut at, &mut size, module, name.as_ptr()))?;
        Ok((at, size))
    }

    /// `cuModuleGetLoadingMode`.
    pub fn loading_mode(&self) -> Result<u32> {
        let mut mode = 0;
        call!(self.cuModuleGetLoadingMode(&mut mode))?;
        Ok(mode)
    }

    /// `cuFuncGetAttribute`.
    pub fn function_attribute(&self, function: Function, attribute: u32) -> Result<i32> {
        let mut value = 0;
        call!(self.cuFuncGetAttribute(&mut value, attribute, function))?;
        Ok(value)
    }

    /// `cuFuncGetName`.
    pub fn function_name(&self, function: Function) -> Result<String> {
        let mut name = std::ptr::null();
        call!(self.cuFuncGetName(&mut name, function))?;
        Ok(text_of(name))
    }

    /// `cuFuncGetModule`.
    pub fn function_module(&self, function: Function) -> Result<Module> {
        let mut module = Module::NULL;
        call!(self.cuFuncGetModule(&mut module, function))?;
        Ok(module)
    }

    /// `cuFuncGetParamInfo`: offset and size.
    pub fn function_param(&self, function: Function, index: usize) -> Result<(usize, usize)> {
        let (mut offset, mut size) = (0, 0);
        call!(self.cuFuncGetParamInfo(function, index, &mut offset, &mut size))?;
        Ok((offset, size))
    }

    /// `cuLibraryLoadData` without options.
    ///
    /// # Safety
    /// As [`Driver::module_load`].
    pub unsafe fn library_load(&self, image: &[u8]) -> Result<Library> {
        let mut library = Library::NULL;
        let none = std::ptr::null_mut();
        let values = std::ptr::null_mut();
        call!(self.cuLibraryLoadData(
            &mut library,
            image.as_ptr().cast(),
            none,
            values,
            0,
            none,
            values,
            0
        ))?;
        Ok(library)
    }

    /// `cuLibraryUnload`.
    pub fn library_unload(&self, library: Library) -> Result<()> {
        call!(self.cuLibraryUnload(library))
    }

    /// `cuLibraryGetKernel`.
    pub fn kernel(&self, library: Library, name: &str) -> Result<Kernel> {
        let (mut kernel, name) = (Kernel::NULL, terminated(name)?);
        call!(self.cuLibraryGetKernel(&mut kernel, library, name.as_ptr()))?;
        Ok(kernel)
    }

    /// `cuLibraryGetModule`.
    pub fn library_module(&self, library: Library) -> Result<Module> {
        let mut module = Module::NULL;
        call!(self.cuLibraryGetModule(&mut module, library))?;
        Ok(module)
    }

    /// `cuLibraryGetGlobal`: address and size.
    pub fn library_global(&self, library: Library, name: &str) -> Result<(DevicePtr, usize)> {
        let (mut at, mut size, name) = (0, 0, terminated(name)?);
        call!(self.cuLibraryGetGlobal(&mut at, &mut size, library, name.as_ptr()))?;
        Ok((at, size))
    }

    /// `cuLibraryEnumerateKernels`, all of them.
    pub fn library_kernels(&self, library: Library) -> Result<Vec<Kernel>> {
        let mut count = 0;
        call!(self.cuLibraryGetKernelCount(&mut count, library))?;
        let mut kernels = vec![Kernel::NULL; count as usize];
        call!(self.cuLibraryEnumerateKernels(kernels.as_mut_ptr(), count, library))?;
        Ok(kernels)
    }

    /// `cuKernelGetFunction`, in the current context.
    pub fn kernel_function(&self, kernel: Kernel) -> Result<Function> {
        let mut function = Function::NULL;
        call!(self.cuKernelGetFunction(&mut function, kernel))?;
        Ok(function)
    }

    /// `cuKernelGetName`.
    pub fn kernel_name(&self, kernel: Kernel) -> Result<String> {
        let mut name = std::ptr::null();
        call!(self.cuKernelGetName(&mut name, kernel))?;
        Ok(text_of(name))
    }

    /// `cuKernelGetParamInfo`: offset and size.
    pub fn kernel_param(&self, kernel: Kernel, index: usize) -> Result<(usize, usize)> {
        let (mut offset, mut size) = (0, 0);
        call!(self.cuKernelGetParamInfo(kernel, index, &mut offset, &mut size))?;
        Ok((offset, size))
    }

    /// `cuLaunchKernel` with an array of pointers to the parameters.
    ///
    /// # Safety
    /// `params` points to one value a parameter, of its type.
    pub unsafe fn launch(
        &self,
        function: impl Into<Function>,
        grid: Grid,
        stream: Stream,
        params: &mut [*mut c_void],
    ) -> Result<()> {
        let ([gx, gy, gz], [bx, by, bz]) = (grid.blocks, grid.threads);
        call!(self.cuLaunchKernel(
            function.into(),
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            grid.shared_bytes,
            stream,
            params.as_mut_ptr(),
            std::ptr::null_mut()
        ))
    }

    /// `cuLaunchKernel` with packed parameters.
    ///
    /// # Safety
    /// `extra` holds the function's parameters at their offsets.
    pub unsafe fn launch_extra(
        &self,
        function: impl Into<Function>,
        grid: Grid,
        stream: Stream,
        extra: &Extra,
    ) -> Result<()> {
        let ([gx, gy, gz], [bx, by, bz]) = (grid.blocks, grid.threads);
        let mut size = extra.bytes.len();
        let mut list = [
            flag::LAUNCH_PARAM_BUFFER_POINTER as *mut c_void,
            extra.bytes.as_ptr() as *mut c_void,
            flag::LAUNCH_PARAM_BUFFER_SIZE as *mut c_void,
            (&raw mut size).cast(),
            flag::LAUNCH_PARAM_END as *mut c_void,
        ];
        call!(self.cuLaunchKernel(
            function.into(),
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            grid.shared_bytes,
            stream,
            std::ptr::null_mut(),
            list.as_mut_ptr()
        ))
    }

    /// `cuLaunchKernelEx` without attributes.
    ///
    /// # Safety
    /// As [`Driver::launch`].
    pub unsafe fn launch_ex(
        &self,
        function: impl Into<Function>,
        grid: Grid,
        stream: Stream,
        params: &mut [*mut c_void],
    ) -> Result<()> {
        let config = LaunchConfig {
            grid: grid.blocks,
            block: grid.threads,
            shared_bytes: grid.shared_bytes,
            stream,
            ..LaunchConfig::default()
        };
        call!(self.cuLaunchKernelEx(
            &config,
            function.into(),
            params.as_mut_ptr(),
            std::ptr::null_mut()
        ))
    }

    /// `cuLaunchCooperativeKernel`.
    ///
    /// # Safety
    /// As [`Driver::launch`].
    pub unsafe fn launch_cooperative(
        &self,
        function: impl Into<Function>,
        grid: Grid,
        stream: Stream,
        params: &mut [*mut c_void],
    ) -> Result<()> {
        let ([gx, gy, gz], [bx, by, bz]) = (grid.blocks, grid.threads);
        call!(self.cuLaunchCooperativeKernel(
            function.into(),
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            grid.shared_bytes,
            stream,
            params.as_mut_ptr()
        ))
    }
}

/// Pointers to local values, for the parameters of [`Driver::launch`].
#[macro_export]
macro_rules! params {
    ($($value:ident),* $(,)?) => {
        &mut [$((&raw const $value).cast_mut().cast::<std::ffi::c_void>()),*]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_aligns_as_the_device_does() {
        let extra = Extra::default().push(7u32).push(0x1122_3344_5566_7788u64).push(1u8);
        assert_eq!(extra.bytes().len(), 17);
        assert_eq!(extra.bytes()[0..4], 7u32.to_le_bytes());
        assert_eq!(extra.bytes()[8..16], 0x1122_3344_5566_7788u64.to_le_bytes());
    }

    #[test]
    fn cover_rounds_up() {
        assert_eq!(Grid::cover(257, 256), Grid::line(2, 256));
        assert_eq!(Grid::cover(0, 256), Grid::line(1, 256));
    }
}
