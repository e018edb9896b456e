//! What is left after a kernel's fault, and what there is before `cuInit`.

use crate::case::{Case, Outcome, Stop, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Driver, Stream, flag};

pub const CASES: &[Case] = &[
    Case::new("fault.before_init", "Before cuInit calls answer NOT_INITIALIZED.", before_init)
        .isolated(),
    Case::new(
        "fault.unmapped",
        "A kernel that writes a reserved address without a mapping faults.",
        unmapped,
    ),
    Case::new(
        "fault.after_unmap",
        "A kernel that writes an address unmapped before its launch faults.",
        after_unmap,
    )
    .isolated(),
    Case::new(
        "fault.no_access",
        "A kernel that writes a mapping without access faults.",
        no_access,
    )
    .isolated(),
    Case::new("fault.freed", "A kernel that writes freed memory faults.", freed).isolated(),
    Case::new("fault.null", "A kernel that writes the null address faults.", null).isolated(),
    Case::new(
        "fault.sticky",
        "After a fault every call that needs the context fails alike.",
        sticky,
    )
    .isolated(),
    Case::new("fault.launch_fails", "After a fault no kernel starts.", launch_fails).isolated(),
    Case::new(
        "fault.queries_survive",
        "After a fault driver-wide questions are still answered.",
        queries_survive,
    )
    .isolated(),
    Case::new("fault.event", "After a fault an event behind it tells the fault.", event).isolated(),
];

fn before_init(cx: &Cx) -> Outcome {
    // The suite has initialised this driver; only a new program can ask.
    let path = cx.path().ok_or_else(|| Stop::skip("the loader does not tell the driver's path"))?;
    let program = std::env::current_exe().map_err(|e| Stop::fail(e.to_string()))?;
    let output = std::process::Command::new(program)
        .args(["--before-init", &path])
        .output()
        .map_err(|e| Stop::fail(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    same("what a program sees that has not called cuInit", said.trim(), "3 3 3")
}

/// What a program sees that has not called `cuInit`: three codes.
pub fn ask_before_init(driver: &Driver) -> String {
    let number = |result: Result<(), Code>| result.err().map_or(0, |code| code.0);
    let count = number(driver.device_count().map(drop));
    let alloc = number(driver.mem_alloc(256).map(drop));
    let current = number(driver.ctx_current().map(drop));
    format!("{count} {alloc} {current}")
}

/// Writes `at` by a kernel and tells what the synchronise says.
fn touch(cx: &Cx, at: u64) -> Result<Result<(), Code>, Stop> {
    let kernel = cx.demo("cp_demo_fill")?;
    let (words, seed) = (64u64, 1u32);
    let grid = cuda_client::Grid::line(1, 64);
    // SAFETY: the kernel's three parameters; that the address is wrong is the question.
    let launched =
        unsafe { cx.launch(kernel, grid, Stream::NULL, cuda_client::params!(at, words, seed)) };
    Ok(launched.and_then(|()| cx.ctx_synchronize()))
}

fn unmapped(cx: &Cx) -> Outcome {
    let at = cx.reserve(cx.granule()?, 0, 0)?;
    refused("synchronise", touch(cx, at)?, Code::ILLEGAL_ADDRESS)
}

fn after_unmap(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    same("mapped", touch(cx, mapping.at)?, Ok(()))?;
    cx.unmap(mapping.at, mapping.bytes)?;
    refused("unmapped", touch(cx, mapping.at)?, Code::ILLEGAL_ADDRESS)
}

fn no_access(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let handle = cx.create(bytes, cx.device)?;
    cx.map(at, bytes, handle)?;
    refused("synchronise", touch(cx, at)?, Code::ILLEGAL_ADDRESS)
}

fn freed(cx: &Cx) -> Outcome {
    // Larger than what drivers keep back for the next allocation.
    let at = cx.mem_alloc(64 << 20)?;
    cx.mem_free(at)?;
    refused("synchronise", touch(cx, at)?, Code::ILLEGAL_ADDRESS)
}

fn null(cx: &Cx) -> Outcome {
    refused("synchronise", touch(cx, 0)?, Code::ILLEGAL_ADDRESS)
}

/// Ruins the context.
fn ruin(cx: &Cx) -> Outcome {
    let at = cx.reserve(cx.granule()?, 0, 0)?;
    refused("synchronise", touch(cx, at)?, Code::ILLEGAL_ADDRESS)
}

fn sticky(cx: &Cx) -> Outcome {
    let before = cx.mem_alloc(1 << 20)?;
    let stream = cx.stream_create(flag::STREAM_NON_BLOCKING)?;
    ruin(cx)?;
    let wanted = Code::ILLEGAL_ADDRESS;
    refused("alloc", cx.mem_alloc(256), wanted)?;
    refused("free", cx.mem_free(before), wanted)?;
    refused("memset", cx.set_d8(before, 1, 1), wanted)?;
    refused("copy", cx.read::<u8>(before, 1), wanted)?;
    refused("stream", cx.stream_create(0), wanted)?;
    refused("synchronise a stream", cx.stream_synchronize(stream), wanted)?;
    refused("query a stream", cx.stream_query(stream), wanted)?;
    refused("synchronise again", cx.ctx_synchronize(), wanted)?;
    refused("info", cx.mem_info(), wanted)
}

fn launch_fails(cx: &Cx) -> Outcome {
    let good = cx.mem_alloc(1 << 20)?;
    ruin(cx)?;
    refused("launch", touch(cx, good)?, Code::ILLEGAL_ADDRESS)
}

fn queries_survive(cx: &Cx) -> Outcome {
    ruin(cx)?;
    holds("version", cx.version()? > 0)?;
    holds("count", cx.device_count()? > 0)?;
    holds("name", !cx.device_name(cx.device)?.is_empty())?;
    same("current", cx.ctx_current()?, cx.context)?;
    holds("error name", !cx.error_name(Code::ILLEGAL_ADDRESS)?.is_empty())
}

fn event(cx: &Cx) -> Outcome {
    let event = cx.event_create(0)?;
    let at = cx.reserve(cx.granule()?, 0, 0)?;
    let kernel = cx.demo("cp_demo_fill")?;
    let (words, seed) = (64u64, 1u32);
    let grid = cuda_client::Grid::line(1, 64);
    // SAFETY: the kernel's three parameters; that the address is wrong is the question.
    unsafe { cx.launch(kernel, grid, Stream::NULL, cuda_client::params!(at, words, seed)) }?;
    match cx.event_record(event, Stream::NULL) {
        Ok(()) => refused("synchronise", cx.event_synchronize(event), Code::ILLEGAL_ADDRESS),
        early => refused("record", early, Code::ILLEGAL_ADDRESS),
    }
}
