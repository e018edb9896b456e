//! Makes the library look like the driver: its SONAME, a stub for every entry point that the
//! sources do not implement, the version table of the resolver, the fault trampoline, and the
//! library's own kernels for the CPU. Also compiles the kernels its tests load.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[path = "src/hash.rs"]
mod hash;

const KERNELS: &str = "../../../kernels";
/// What the library ships, below `KERNELS`.
const FATBIN: &str = "coldpress.fatbin";

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    // Its own look-ups must never find another library's functions of the same name.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=../../../src/driver/surface.txt");
    cc::Build::new().file("src/guard.c").flag("-fexceptions").compile("simguard");

    own_kernels(Path::new(&out));
    test_kernels(&Path::new(&out).join("demo.so"), "demo/demo.cu", &[]);
    let exported =
        ["-DCP_ISA=test", "-DCP_EXPORT=extern \"C\" __attribute__((visibility(\"default\")))"];
    test_kernels(&Path::new(&out).join("codec.so"), "codec/cpu.cc", &exported);

    let surface = fs::read_to_string("../../../src/driver/surface.txt").expect("surface.txt");
    let implemented = implemented(Path::new("src/api"));
    let mut stubs = String::new();
    let mut table = String::from("pub static TABLE: &[Name] = &[\n");
    for line in surface.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let mut fields = line.split_whitespace();
        let (Some(name), Some(versions), Some(per_thread)) =
            (fields.next(), fields.next(), fields.next())
        else {
            panic!("surface.txt: {line}");
        };
        let versions: Vec<u32> = numbers(versions);
        let symbol = |i: usize| if i == 0 { name.to_owned() } else { format!("{name}_v{}", i + 1) };
        let mut symbols: Vec<String> = (0..versions.len()).map(symbol).collect();
        let _ = write!(table, "    Name {{ base: \"{name}\", plain: &[");
        for (version, symbol) in versions.iter().zip(&symbols) {
            let _ = write!(table, "({version}, \"{symbol}\"), ");
        }
        let _ = write!(table, "], per_thread: &[");
        if let Some((suffix, at)) = per_thread.split_once(':') {
            // They map to the newest plain symbol that existed then, which is the newest.
            let newest = symbols.last().cloned().unwrap_or_default();
            for version in numbers(at) {
                let twin = per_thread_symbol(&symbols, &versions, version, suffix, &newest);
                let _ = write!(table, "({version}, \"{twin}\"), ");
                symbols.push(twin);
            }
        }
        table.push_str("] },\n");
        for symbol in symbols.iter().filter(|s| !implemented.contains(*s)) {
            let _ = writeln!(stubs, "crate::entry::stub!({symbol});");
        }
    }
    table.push_str("];\n");
    fs::write(Path::new(&out).join("stubs.rs"), stubs).expect("OUT_DIR is writable");
    fs::write(Path::new(&out).join("table.rs"), table).expect("OUT_DIR is writable");
}

/// The library's own kernels for the processor of this machine and of any other, and by what the
/// image of the same kernels for a card is known.
fn own_kernels(out: &Path) {
    for folder in ["cpu_kernels.cc", "codec", "scan", FATBIN] {
        println!("cargo:rerun-if-changed={KERNELS}/{folder}");
    }
    for (isa, flags) in
        [("any", &[][..]), ("avx2", &["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"])]
    {
        let mut build = cc::Build::new();
        build.cpp(true).cpp_link_stdlib(None).std("c++17").opt_level(3).warnings(true);
        for flag in ["-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"].iter().chain(flags) {
            build.flag(flag);
        }
        build.define("CP_ISA", isa).file(Path::new(KERNELS).join("cpu_kernels.cc"));
        build.compile(&format!("simkernels_{isa}"));
    }
    let path = Path::new(KERNELS).join(FATBIN);
    let image = fs::read(&path).expect("the committed kernels");
    let known = format!(
        "pub const BYTES: usize = {};\npub const HASH: u64 = {};\n",
        image.len(),
        hash::of(&image)
    );
    fs::write(out.join("fatbin.rs"), known).expect("OUT_DIR is writable");
    // The tests load it.
    fs::copy(&path, out.join("kernels.fatbin")).expect("OUT_DIR is writable");
}

/// Kernels for the tests: a library made of one source.
fn test_kernels(image: &Path, source: &str, more: &[&str]) {
    println!("cargo:rerun-if-changed={KERNELS}/{source}");
    println!("cargo:rerun-if-changed={KERNELS}/cuda_on_cpu.h");
    let compiler = cc::Build::new().cpp(true).opt_level(1).get_compiler();
    let status = compiler
        .to_command()
        .args(["-std=c++17", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden"])
        .args(["-fno-exceptions", "-Wl,--as-needed"])
        .args(more)
        .arg("-o")
        .arg(image)
        .arg(Path::new(KERNELS).join(source))
        .status();
    assert!(status.is_ok_and(|s| s.success()), "a C++ compiler is needed");
}

/// The newest plain symbol not above `version`, with the suffix; several per-thread versions of
/// one name belong to several plain ones.
fn per_thread_symbol(
    symbols: &[String],
    versions: &[u32],
    version: u32,
    suffix: &str,
    newest: &str,
) -> String {
    let plain = versions.iter().zip(symbols).rev().find(|(v, _)| **v <= version);
    format!("{}_{suffix}", plain.map_or(newest, |(_, s)| s.as_str()))
}

fn numbers(list: &str) -> Vec<u32> {
    list.split(',').map(|n| n.parse().expect("a version")).collect()
}

/// Names defined through `api!`: what stands between `fn` and `(` in `src/api`.
fn implemented(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(dir).expect("src/api") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("readable");
        for line in text.lines().map(str::trim).filter_map(|l| l.strip_prefix("fn cu")) {
            let head = line.split('(').next().unwrap_or_default();
            for name in format!("cu{head}").split('|') {
                names.insert(name.trim().to_owned());
            }
        }
    }
    names
}
