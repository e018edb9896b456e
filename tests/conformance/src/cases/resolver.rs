//! `cuGetProcAddress` and the exported names.

use crate::case::{Case, Outcome, Stop, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Driver, Lookup, flag};

pub const CASES: &[Case] = &[
    Case::new("resolver.identity", "The resolver and dlsym give the same addresses.", identity),
    Case::new("resolver.version", "The version asked for picks the variant.", version),
    Case::new(
        "resolver.between_versions",
        "A version between two variants gets the older one.",
        between_versions,
    ),
    Case::new("resolver.too_old", "A name newer than the version asked for says so.", too_old),
    Case::new("resolver.unknown", "An unknown name is not found, with a status.", unknown),
    Case::new("resolver.versioned_name", "Names with a version suffix are unknown.", suffixed),
    Case::new("resolver.empty", "The empty name is answered without a pointer.", empty),
    Case::new("resolver.flags", "Unknown flags are refused.", flags),
    Case::new(
        "resolver.per_thread",
        "The per-thread flag gives the per-thread variant where there is one.",
        per_thread,
    ),
    Case::new(
        "resolver.per_thread_plain",
        "The per-thread flag gives the plain function where there is no other.",
        per_thread_plain,
    ),
    Case::new("resolver.itself", "The resolver finds both of its own forms.", itself),
    Case::new(
        "resolver.far_future",
        "A version beyond the driver's gets the newest variant.",
        far_future,
    ),
    Case::new(
        "resolver.client_tables",
        "A table filled by the resolver works as one filled by dlsym.",
        client_tables,
    ),
];

fn ask(driver: &Driver, name: &str, version: u32, flags: u64) -> Result<usize, Stop> {
    let (at, status) = driver.proc_address(name, version, flags)?;
    same("status", status, flag::PROC_FOUND)?;
    holds("a pointer", at != 0)?;
    Ok(at)
}

fn identity(cx: &Cx) -> Outcome {
    let pairs = [
        ("cuInit", 2000, "cuInit"),
        ("cuMemAlloc", 3020, "cuMemAlloc_v2"),
        ("cuLaunchKernel", 4000, "cuLaunchKernel"),
        ("cuMemCreate", 10020, "cuMemCreate"),
    ];
    for (name, version, symbol) in pairs {
        same(symbol, ask(cx, name, version, 0)?, cx.symbol(symbol) as usize)?;
    }
    Ok(())
}

fn version(cx: &Cx) -> Outcome {
    same("3020", ask(cx, "cuMemAlloc", 3020, 0)?, cx.symbol("cuMemAlloc_v2") as usize)?;
    let old = ask(cx, "cuStreamGetCaptureInfo", 11030, 0)?;
    same("11030", old, cx.symbol("cuStreamGetCaptureInfo_v2") as usize)
}

fn between_versions(cx: &Cx) -> Outcome {
    let at = ask(cx, "cuCtxCreate", 11030, 0)?;
    same("11030", at, cx.symbol("cuCtxCreate_v2") as usize)
}

fn too_old(cx: &Cx) -> Outcome {
    let (at, status) = cx.proc_address("cuMemCreate", 9000, 0)?;
    same("pointer", at, 0)?;
    same("status", status, flag::PROC_TOO_NEW)
}

fn unknown(cx: &Cx) -> Outcome {
    match cx.proc_address("cuNoSuchFunction", 12000, 0) {
        Ok((at, status)) => {
            same("pointer", at, 0)?;
            same("status", status, flag::PROC_NOT_FOUND)
        }
        Err(code) => same("code", code, Code::NOT_FOUND),
    }
}

fn suffixed(cx: &Cx) -> Outcome {
    match cx.proc_address("cuMemAlloc_v2", 12000, 0) {
        Ok((at, _)) => same("pointer", at, 0),
        Err(code) => same("code", code, Code::NOT_FOUND),
    }
}

fn empty(cx: &Cx) -> Outcome {
    match cx.proc_address("", 0, 0) {
        Ok((at, _)) => same("pointer", at, 0),
        Err(Code::NOT_FOUND | Code::INVALID_VALUE) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

fn flags(cx: &Cx) -> Outcome {
    refused("flags 64", cx.proc_address("cuInit", 12000, 64), Code::INVALID_VALUE)
}

fn per_thread(cx: &Cx) -> Outcome {
    let at = ask(cx, "cuMemcpyAsync", 7000, flag::PROC_PER_THREAD)?;
    same("ptsz", at, cx.symbol("cuMemcpyAsync_ptsz") as usize)?;
    let at = ask(cx, "cuMemcpyHtoD", 7000, flag::PROC_PER_THREAD)?;
    same("ptds", at, cx.symbol("cuMemcpyHtoD_v2_ptds") as usize)
}

fn per_thread_plain(cx: &Cx) -> Outcome {
    let at = ask(cx, "cuMemAlloc", 12000, flag::PROC_PER_THREAD)?;
    same("plain", at, cx.symbol("cuMemAlloc_v2") as usize)
}

fn itself(cx: &Cx) -> Outcome {
    let old = ask(cx, "cuGetProcAddress", 11030, 0)?;
    let new = ask(cx, "cuGetProcAddress", 12000, 0)?;
    same("11030", old, cx.symbol("cuGetProcAddress") as usize)?;
    same("12000", new, cx.symbol("cuGetProcAddress_v2") as usize)
}

fn far_future(cx: &Cx) -> Outcome {
    let at = ask(cx, "cuMemAlloc", 99000, 0)?;
    same("newest", at, cx.symbol("cuMemAlloc_v2") as usize)
}

fn client_tables(cx: &Cx) -> Outcome {
    for per_thread in [false, true] {
        let other = cx.other(Lookup::ProcAddress { version: 12000, per_thread })?;
        let buffer = other.buffer(4096)?;
        other.set_d8(buffer.at, 3, 4096)?;
        crate::case::all_same("bytes", &other.read::<u8>(buffer.at, 4096)?, 3)?;
        other.fill(buffer.at, 1024, 9, cuda_client::Stream::NULL)?;
        same("kernel", other.read::<u32>(buffer.at, 1)?[0], crate::context::mix(9))?;
    }
    Ok(())
}
