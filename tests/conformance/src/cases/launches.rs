//! Launches in all forms.

use crate::case::{Case, Outcome, refused, same};
use crate::context::{Cx, mix};
use cuda_client::{Code, Extra, Grid, Stream, flag, params};

pub const CASES: &[Case] = &[
    Case::new("launch.params", "A launch takes its parameters at the call.", at_the_call),
    Case::new("launch.extra", "A launch takes packed parameters.", extra),
    Case::new("launch.ex", "cuLaunchKernelEx launches as cuLaunchKernel does.", ex),
    Case::new("launch.cooperative", "A cooperative launch runs every thread.", cooperative),
    Case::new("launch.no_blocks", "A launch of no blocks is refused.", no_blocks),
    Case::new("launch.too_many_threads", "A block of 4096 threads is refused.", too_many),
    Case::new("launch.tail", "Threads beyond the data touch nothing.", tail),
    Case::new("launch.indirect", "A kernel follows addresses stored in device memory.", indirect),
    Case::new("launch.global", "A kernel follows an address in a module's variable.", global),
];

const WORDS: u64 = 1000;

fn check(cx: &Cx, at: u64, seed: u32) -> Outcome {
    let seen: Vec<u32> = cx.read(at, WORDS as usize)?;
    let wanted: Vec<u32> = (0..WORDS as u32).map(|i| mix(seed + i)).collect();
    crate::case::holds("every word", seen == wanted)
}

fn at_the_call(cx: &Cx) -> Outcome {
    let (first, second) = (cx.buffer(4096)?, cx.buffer(4096)?);
    let kernel = cx.demo("cp_demo_fill")?;
    let stream = cx.stream(0)?;
    let (mut at, words, mut seed) = (first.at, WORDS, 1u32);
    let grid = Grid::cover(WORDS as usize, 128);
    // SAFETY: the kernel's three parameters.
    unsafe { cx.launch(kernel, grid, *stream, params!(at, words, seed)) }?;
    (at, seed) = (second.at, 500);
    // SAFETY: as above.
    unsafe { cx.launch(kernel, grid, *stream, params!(at, words, seed)) }?;
    (at, seed) = (0, 0);
    cx.stream_synchronize(*stream)?;
    same("both variables are the caller's again", (at, seed), (0, 0))?;
    check(cx, first.at, 1)?;
    check(cx, second.at, 500)
}

fn extra(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    let packed = Extra::default().push(buffer.at).push(WORDS).push(7u32);
    let kernel = cx.demo("cp_demo_fill")?;
    // SAFETY: the kernel's three parameters, packed at their alignments.
    unsafe { cx.launch_extra(kernel, Grid::cover(1000, 128), Stream::NULL, &packed) }?;
    check(cx, buffer.at, 7)
}

fn ex(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    let (at, words, seed) = (buffer.at, WORDS, 9u32);
    let kernel = cx.demo("cp_demo_fill")?;
    let grid = Grid::cover(1000, 128);
    // SAFETY: the kernel's three parameters.
    unsafe { cx.launch_ex(kernel, grid, Stream::NULL, params!(at, words, seed)) }?;
    check(cx, buffer.at, 9)
}

fn cooperative(cx: &Cx) -> Outcome {
    if cx.device_attribute(flag::DEVICE_COOPERATIVE_LAUNCH, cx.device)? == 0 {
        return Err(crate::case::Stop::skip("no cooperative launch"));
    }
    let buffer = cx.buffer(4096)?;
    let (at, words, seed) = (buffer.at, WORDS, 11u32);
    let kernel = cx.demo("cp_demo_fill")?;
    let grid = Grid::cover(1000, 128);
    // SAFETY: the kernel's three parameters.
    unsafe { cx.launch_cooperative(kernel, grid, Stream::NULL, params!(at, words, seed)) }?;
    check(cx, buffer.at, 11)
}

fn shaped(cx: &Cx, grid: Grid) -> Result<Result<(), Code>, crate::case::Stop> {
    let buffer = cx.buffer(4096)?;
    let (at, words, seed) = (buffer.at, WORDS, 1u32);
    let kernel = cx.demo("cp_demo_fill")?;
    // SAFETY: the kernel's three parameters.
    let launched = unsafe { cx.launch(kernel, grid, Stream::NULL, params!(at, words, seed)) };
    cx.ctx_synchronize()?;
    Ok(launched)
}

fn no_blocks(cx: &Cx) -> Outcome {
    refused("no blocks", shaped(cx, Grid::line(0, 128))?, Code::INVALID_VALUE)?;
    refused("no threads", shaped(cx, Grid::line(1, 0))?, Code::INVALID_VALUE)
}

fn too_many(cx: &Cx) -> Outcome {
    refused("4096 threads", shaped(cx, Grid::line(1, 4096))?, Code::INVALID_VALUE)
}

fn tail(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(8192)?;
    cx.set_d8(buffer.at, 0xEE, 8192)?;
    cx.fill(buffer.at, WORDS, 3, Stream::NULL)?;
    check(cx, buffer.at, 3)?;
    let rest: Vec<u8> = cx.read(buffer.at + 4 * WORDS, 8192 - 4000)?;
    crate::case::all_same("behind the data", &rest, 0xEE)
}

/// What `cp_demo_gather` makes of rows of one constant each, from zero.
fn gathered(rows: &[u32]) -> u32 {
    rows.iter().fold(0u32, |sum, row| sum.rotate_left(5).wrapping_add(*row))
}

fn indirect(cx: &Cx) -> Outcome {
    let (a, b, out) = (cx.buffer(4096)?, cx.buffer(4096)?, cx.buffer(4096)?);
    let list = cx.buffer(32)?;
    cx.set_d32(a.at, 0x0101_0101, 1024)?;
    cx.set_d32(b.at, 0x0002_0002, 1024)?;
    cx.set_d32(out.at, 0, 1024)?;
    cx.upload(list.at, &[a.at, 1024, b.at, 1024])?;
    let (to, words, rows, count) = (out.at, 1024u64, list.at, 2u32);
    let kernel = cx.demo("cp_demo_gather")?;
    let grid = Grid::line(4, 256);
    // SAFETY: the kernel's four parameters; the list names two live buffers.
    unsafe { cx.launch(kernel, grid, Stream::NULL, params!(to, words, rows, count)) }?;
    let wanted = gathered(&[0x0101_0101, 0x0002_0002]);
    crate::case::all_same("sums", &cx.read::<u32>(out.at, 1024)?, wanted)
}

fn global(cx: &Cx) -> Outcome {
    let (row, out) = (cx.buffer(4096)?, cx.buffer(4096)?);
    cx.set_d32(row.at, 0x1234, 1024)?;
    cx.set_d32(out.at, 0, 1024)?;
    let (variable, _) = cx.module_global(cx.module()?, "cp_demo_shared_row")?;
    cx.upload(variable, &[row.at, 1024])?;
    let (to, words) = (out.at, 1024u64);
    let kernel = cx.demo("cp_demo_from_global")?;
    // SAFETY: the kernel's two parameters; the variable names a live buffer.
    unsafe { cx.launch(kernel, Grid::line(4, 256), Stream::NULL, params!(to, words)) }?;
    let seen = cx.read::<u32>(out.at, 1024)?;
    cx.upload(variable, &[0u64, 0])?;
    crate::case::all_same("words", &seen, mix(0x1234))
}
