//! Compiles the demo kernels for the CPU: the image the simulated driver loads. On a card the
//! suite loads the committed PTX of the same source.

use std::path::Path;

const KERNELS: &str = "../../kernels";

fn main() {
    for file in ["demo/demo.cu", "demo/demo.ptx", "cuda_on_cpu.h"] {
        println!("cargo::rerun-if-changed={KERNELS}/{file}");
    }
    let Some(out) = std::env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set");
        return;
    };
    let compiler = cc::Build::new().cpp(true).opt_level(2).get_compiler();
    let status = compiler
        .to_command()
        .args(["-std=c++17", "-Wall", "-Wextra", "-x", "c++", "-fPIC", "-shared"])
        .args(["-fvisibility=hidden", "-fno-exceptions", "-Wl,--as-needed", "-o"])
        .arg(Path::new(&out).join("demo.so"))
        .arg(Path::new(KERNELS).join("demo/demo.cu"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compiling the demo kernels failed: {status}"),
        Err(e) => println!("cargo::error=no C++ compiler ({:?}): {e}", compiler.path()),
    }
}
