//! Compiles the demo kernels for the CPU: an image the simulated driver loads.

use std::path::Path;

const KERNELS: &str = "../../kernels";

fn main() {
    println!("cargo::rerun-if-changed={KERNELS}/demo/demo.cu");
    println!("cargo::rerun-if-changed={KERNELS}/cuda_on_cpu.h");
    let Some(out) = std::env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set");
        return;
    };
    let image = Path::new(&out).join("demo.so");
    let compiler = cc::Build::new().cpp(true).opt_level(2).get_compiler();
    let status = compiler
        .to_command()
        .args(["-std=c++17", "-Wall", "-Wextra", "-x", "c++", "-fPIC", "-shared"])
        .args(["-fvisibility=hidden", "-fno-exceptions", "-Wl,--as-needed", "-o"])
        .arg(&image)
        .arg(Path::new(KERNELS).join("demo/demo.cu"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compiling the demo kernels failed: {status}"),
        Err(e) => println!("cargo::error=no C++ compiler ({:?}): {e}", compiler.path()),
    }
}
