//! Makes the library look like the driver: its SONAME, the exported symbols written from the list
//! of facts in `src/driver/surface.txt`, and the alias that answers to `libcuda.so`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const SURFACE: &str = "src/driver/surface.txt";
const ALIAS: &str = "libcoldpress-alias.so";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SURFACE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for arg in [
        // The loader takes this library for the driver.
        "-soname,libcuda.so.1",
        // Our own calls never end in another preloaded library's functions of the same name.
        "-Bsymbolic-functions",
        // Its threads and its exports must outlive any dlclose.
        "-z,nodelete",
    ] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{arg}");
    }
    let surface = fs::read_to_string(SURFACE).expect("surface.txt");
    let exports = exports(&surface);
    fs::write(out.join("exports.rs"), table(&exports)).expect("OUT_DIR is writable");
    alias(&out);
    codec();
}

/// The codec's kernels for the processor of this machine and of any other: `codec::cpu` chooses.
/// A third build takes the paths that a device takes; only tests use it.
fn codec() {
    println!("cargo:rerun-if-changed=kernels/codec");
    for (isa, flags) in [
        ("any", &[][..]),
        ("avx2", &["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]),
        ("device", &["-DCP_AS_DEVICE"]),
    ] {
        let mut build = cc::Build::new();
        build.cpp(true).cpp_link_stdlib(None).std("c++17").opt_level(3).warnings(true);
        for flag in
            ["-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-Wextra"].iter().chain(flags)
        {
            build.flag(flag);
        }
        build.define("CP_ISA", isa).file("kernels/codec/cpu.cc");
        build.compile(&format!("coldpress_codec_{isa}"));
    }
}

/// One exported symbol.
struct Export {
    symbol: String,
    base: String,
    version: u32,
    per_thread: bool,
    action: String,
}

/// All symbols, those of one name together, in order of name.
fn exports(surface: &str) -> Vec<Export> {
    let mut names = BTreeMap::new();
    for line in surface.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, versions, per_thread, group, action] = fields[..] else {
            panic!("surface.txt: not five fields: {line}");
        };
        let before =
            names.insert(name.to_owned(), variants(name, versions, per_thread, group, action));
        assert!(before.is_none(), "surface.txt: {name} twice");
    }
    names.into_values().flatten().collect()
}

/// The variants of one name, each with what it does.
fn variants(
    name: &str,
    versions: &str,
    per_thread: &str,
    group: &str,
    action: &str,
) -> Vec<Export> {
    let numbers = |list: &str| -> Vec<u32> {
        list.split(',').map(|v| v.parse().unwrap_or_else(|_| panic!("{name}: {list}"))).collect()
    };
    let (what, from) = match action.split_once('@') {
        Some((what, from)) => (what, numbers(from)[0]),
        None => (action, 0),
    };
    // Older ABIs of a hooked name are not understood.
    let action = |version| match what {
        "hook" if version < from => "Action::Latch".to_owned(),
        "hook" => {
            let module = match (group, name) {
                ("P", _) => "intercept::resolve",
                (_, "cuInit") => "intercept::lifecycle",
                _ => "hooks",
            };
            format!("Action::Hook(Code(crate::{module}::SYMBOL as *const ()))")
        }
        "pass" => "Action::Pass".to_owned(),
        "latch" => "Action::Latch".to_owned(),
        other => panic!("{name}: no action {other}"),
    };
    let export = |symbol: String, version, per_thread| Export {
        action: action(version).replace("SYMBOL", &symbol),
        base: name.to_owned(),
        symbol,
        version,
        per_thread,
    };
    let versions = numbers(versions);
    let plain = |i: usize| if i == 0 { name.to_owned() } else { format!("{name}_v{}", i + 1) };
    let mut out: Vec<Export> =
        versions.iter().enumerate().map(|(i, &v)| export(plain(i), v, false)).collect();
    if let Some((suffix, at)) = per_thread.split_once(':') {
        for version in numbers(at) {
            // Named after the newest plain variant there was.
            let i = versions.iter().rposition(|&v| v <= version).unwrap_or(versions.len() - 1);
            out.push(export(format!("{}_{suffix}", plain(i)), version, true));
        }
    }
    out
}

fn table(exports: &[Export]) -> String {
    let newest = exports.iter().map(|e| e.version).max().unwrap_or(0);
    let mut out = String::new();
    let _ = writeln!(out, "pub const COUNT: usize = {};", exports.len());
    let _ = writeln!(out, "pub const NEWEST: i32 = {newest};");
    out.push_str("pub static EXPORTS: [Export; COUNT] = [\n");
    for e in exports {
        let _ = writeln!(
            out,
            "    Export {{ symbol: c\"{}\", base: \"{}\", version: {}, per_thread: {}, \
             stub: Code(stubs::{} as *const ()), action: {} }},",
            e.symbol, e.base, e.version, e.per_thread, e.symbol, e.action
        );
    }
    out.push_str("];\nmod stubs {\n    use super::SLOTS;\n");
    for (i, e) in exports.iter().enumerate() {
        let _ = writeln!(out, "    stub!({} {i});", e.symbol);
    }
    out.push_str("}\n");
    out
}

/// `libcuda.so` for programs that open it by that name: no code, only the need for
/// `libcuda.so.1`, which is this library. It lies beside the library, in the profile's folder.
fn alias(out: &Path) {
    let profile = out.ancestors().nth(3).expect("OUT_DIR is target/PROFILE/build/NAME/out");
    let (empty, stub, made) = (out.join("empty.c"), out.join("libcuda.so.1"), out.join(ALIAS));
    fs::write(&empty, "").expect("OUT_DIR is writable");
    let compiler = cc::Build::new().get_compiler();
    let link = |target: &Path, args: &[&str], input: &Path| {
        let mut command = Command::new(compiler.path());
        command.args(["-shared", "-nostdlib", "-Wl,--no-as-needed"]).args(args);
        let done = command.arg(input).arg("-o").arg(target).status();
        assert!(done.is_ok_and(|s| s.success()), "{command:?} failed");
    };
    link(&stub, &["-Wl,-soname,libcuda.so.1"], &empty);
    link(&made, &["-Wl,-soname,libcuda.so"], &stub);
    // Cargo copies the library out of `deps` only when it is what was asked for.
    for folder in [profile.to_path_buf(), profile.join("deps")] {
        let target = folder.join(ALIAS);
        fs::copy(&made, &target).expect("the profile's folder is writable");
        // Made anew if it is missing; a file younger than this run would count as changed.
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let file = File::options().write(true).open(&target);
        file.and_then(|f| f.set_modified(old)).expect("its time");
        println!("cargo:rerun-if-changed={}", target.display());
    }
}
