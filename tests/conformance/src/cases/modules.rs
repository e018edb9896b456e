//! Modules, libraries, functions and their parameters.

use crate::case::{Case, Outcome, holds, refused, same};
use crate::context::{Cx, mix};
use cuda_client::{Code, Function, Grid, Stream, params};

pub const CASES: &[Case] = &[
    Case::new("module.functions", "Functions are found by their names, others are not.", functions),
    Case::new("module.garbage", "What is no image is refused.", garbage),
    Case::new("module.missing_file", "A file that is not there is refused.", missing_file),
    Case::new("module.param_info", "A function tells offset and size of each parameter.", info),
    Case::new(
        "module.param_info_end",
        "Beyond the last parameter the answer is INVALID_VALUE.",
        info_end,
    ),
    Case::new("module.param_struct", "A structure is one parameter with C's size.", structure),
    Case::new("module.name", "A function knows its name and module.", name),
    Case::new("module.global", "A module's variable has an address, a size and bytes.", global),
    Case::new("module.global_private", "Each module has variables of its own.", global_private),
    Case::new("module.unload", "An unloaded module has no functions.", unload),
    Case::new("module.unload_busy", "A module may be unloaded while its kernels wait.", busy),
    Case::new("library.kernels", "A library lists all kernels by name.", library_kernels),
    Case::new("library.param_info", "A kernel tells its parameters as its function does.", kernel),
    Case::new("library.launch_kernel", "A kernel is launched in a function's place.", launch),
    Case::new("library.global", "A library's variable has an address and a size.", library_global),
    Case::new("library.unknown", "A kernel a library does not have is not found.", unknown),
];

fn functions(cx: &Cx) -> Outcome {
    holds("a handle", !cx.demo("cp_demo_fill")?.is_null())?;
    let missing = cx.function(cx.module()?, "no_such_kernel");
    refused("no_such_kernel", missing, Code::NOT_FOUND)
}

fn garbage(cx: &Cx) -> Outcome {
    let image = [0u8; 4096];
    // SAFETY: zeros are no image of any kind, and text that ends at once.
    match unsafe { cx.module_load(&image) } {
        Err(Code::INVALID_IMAGE | Code::INVALID_PTX | Code::NO_BINARY_FOR_GPU) => Ok(()),
        other => refused("zeros", other, Code::INVALID_IMAGE),
    }
}

fn missing_file(cx: &Cx) -> Outcome {
    refused("no file", cx.module_load_file("/no/such/file"), Code::FILE_NOT_FOUND)
}

/// Asks for parameters by index.
type Params<'a> = &'a dyn Fn(usize) -> cuda_client::Result<(usize, usize)>;

fn check_axpy(info: Params) -> Outcome {
    for (index, wanted) in [(0, 8), (8, 8), (16, 8), (24, 8), (32, 4)].into_iter().enumerate() {
        same("offset and size", info(index)?, wanted)?;
    }
    refused("index 5", info(5), Code::INVALID_VALUE)
}

fn info(cx: &Cx) -> Outcome {
    let function = cx.demo("cp_demo_axpy")?;
    check_axpy(&|index| cx.function_param(function, index))
}

fn info_end(cx: &Cx) -> Outcome {
    let function = cx.demo("cp_demo_fill")?;
    refused("index 3", cx.function_param(function, 3), Code::INVALID_VALUE)?;
    refused("index 1000", cx.function_param(function, 1000), Code::INVALID_VALUE)
}

fn structure(cx: &Cx) -> Outcome {
    let function = cx.demo("cp_demo_blend")?;
    same("the structure", cx.function_param(function, 0)?, (0, 56))?;
    refused("index 1", cx.function_param(function, 1), Code::INVALID_VALUE)
}

fn name(cx: &Cx) -> Outcome {
    let function = cx.demo("cp_demo_rotate")?;
    same("name", cx.function_name(function)?, "cp_demo_rotate".to_owned())?;
    same("module", cx.function_module(function)?, cx.module()?)
}

fn global(cx: &Cx) -> Outcome {
    let (at, size) = cx.module_global(cx.module()?, "cp_demo_shared_row")?;
    same("size", size, 16)?;
    cx.upload(at, &[0x1122_3344_5566_7788u64, 42])?;
    let seen = cx.read::<u64>(at, 2)?;
    cx.upload(at, &[0u64, 0])?;
    same("bytes", seen, vec![0x1122_3344_5566_7788, 42])?;
    let missing = cx.module_global(cx.module()?, "no_such_variable");
    refused("no_such_variable", missing, Code::NOT_FOUND)
}

fn global_private(cx: &Cx) -> Outcome {
    let other = cx.load_module()?;
    let (first, second) = (
        cx.module_global(cx.module()?, "cp_demo_shared_row")?.0,
        cx.module_global(other, "cp_demo_shared_row")?.0,
    );
    cx.module_unload(other)?;
    holds("two addresses", first != second)
}

fn unload(cx: &Cx) -> Outcome {
    let module = cx.load_module()?;
    cx.module_unload(module)?;
    match cx.function(module, "cp_demo_fill") {
        Err(Code::INVALID_HANDLE | Code::INVALID_VALUE | Code::NOT_FOUND) => Ok(()),
        other => refused("a stale module", other, Code::INVALID_HANDLE),
    }
}

fn busy(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    let stream = cx.stream(0)?;
    let module = cx.load_module()?;
    let function = cx.function(module, "cp_demo_fill")?;
    let gate = cx.hold(*stream)?;
    let (at, words, seed) = (buffer.at, 1024u64, 77u32);
    // SAFETY: the kernel's three parameters.
    unsafe { cx.launch(function, Grid::line(4, 256), *stream, params!(at, words, seed)) }?;
    gate.open_after(std::time::Duration::from_millis(20));
    cx.module_unload(module)?;
    cx.stream_synchronize(*stream)?;
    same("it ran", cx.read::<u32>(buffer.at, 1)?[0], mix(77))
}

fn library_kernels(cx: &Cx) -> Outcome {
    // SAFETY: the image as for modules.
    let library = unsafe { cx.library_load(cx.image()) }?;
    let mut names = Vec::new();
    for kernel in cx.library_kernels(library)? {
        names.push(cx.kernel_name(kernel)?);
    }
    cx.library_unload(library)?;
    names.sort();
    same("how many", names.len(), 9)?;
    holds("the first by name", names[0] == "cp_demo_axpy")
}

fn kernel(cx: &Cx) -> Outcome {
    // SAFETY: the image as for modules.
    let library = unsafe { cx.library_load(cx.image()) }?;
    let kernel = cx.kernel(library, "cp_demo_axpy")?;
    let checked = check_axpy(&|index| cx.kernel_param(kernel, index));
    let function = cx.kernel_function(kernel)?;
    let as_function = check_axpy(&|index| cx.function_param(function, index));
    cx.library_unload(library)?;
    checked?;
    as_function
}

fn launch(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    // SAFETY: the image as for modules.
    let library = unsafe { cx.library_load(cx.image()) }?;
    let kernel = cx.kernel(library, "cp_demo_fill")?;
    let (at, words, seed) = (buffer.at, 1024u64, 31u32);
    // SAFETY: the kernel's three parameters.
    let launched = unsafe {
        cx.launch(
            Function::from(kernel),
            Grid::line(4, 256),
            Stream::NULL,
            params!(at, words, seed),
        )
    };
    cx.ctx_synchronize()?;
    cx.library_unload(library)?;
    launched?;
    same("it ran", cx.read::<u32>(buffer.at, 1)?[0], mix(31))
}

fn library_global(cx: &Cx) -> Outcome {
    // SAFETY: the image as for modules.
    let library = unsafe { cx.library_load(cx.image()) }?;
    let found = cx.library_global(library, "cp_demo_shared_row");
    let missing = cx.library_global(library, "no_such_variable");
    cx.library_unload(library)?;
    same("size", found?.1, 16)?;
    refused("no_such_variable", missing, Code::NOT_FOUND)
}

fn unknown(cx: &Cx) -> Outcome {
    // SAFETY: the image as for modules.
    let library = unsafe { cx.library_load(cx.image()) }?;
    let missing = cx.kernel(library, "no_such_kernel");
    cx.library_unload(library)?;
    refused("no_such_kernel", missing, Code::NOT_FOUND)
}
