//! Allocation, frees, copies and memsets.

use crate::case::{Case, Outcome, Stop, all_same, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Copy2d, Side, Stream, flag};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case::new("memory.zero", "An allocation of no bytes is refused.", zero),
    Case::new(
        "memory.aligned",
        "Allocations are aligned to 256 bytes and do not overlap.",
        aligned,
    ),
    Case::new(
        "memory.too_much",
        "More than the card is out of memory, and the next allocation is not.",
        too_much,
    ),
    Case::new("memory.info", "Free memory shrinks by an allocation and grows back.", info),
    Case::new("memory.free_null", "Freeing the null address is no error.", free_null),
    Case::new("memory.free_interior", "An address inside is not freed.", free_interior),
    Case::new("memory.free_twice", "The second free is refused.", free_twice),
    Case::new("memory.free_foreign", "Addresses never allocated are not freed.", free_foreign),
    Case::new(
        "memory.free_waits",
        "cuMemFree returns after the work that uses the memory.",
        free_waits,
    ),
    Case::new(
        "memory.copy_free_read",
        "An asynchronous copy to the host is complete after the free of its source.",
        copy_free_read,
    ),
    Case::new("memory.pitch", "A pitched allocation has rows of at least the width.", pitch),
    Case::new("memory.pitch_element", "Element sizes other than 4, 8, 16 are refused.", element),
    Case::new(
        "memory.async_after_free",
        "Memory freed in stream order may be used by work before the free.",
        async_after_free,
    ),
    Case::new("memory.async_twice", "The second asynchronous free is refused.", async_twice),
    Case::new(
        "memory.async_freed_plainly",
        "cuMemFree takes memory of cuMemAllocAsync.",
        async_freed_plainly,
    ),
    Case::new(
        "memory.plain_freed_async",
        "cuMemFreeAsync takes memory of cuMemAlloc.",
        plain_freed_async,
    ),
    Case::new("memory.copies", "All simple copies bring their bytes.", copies),
    Case::new("memory.copy_2d", "A pitched copy leaves the gaps alone.", copy_2d),
    Case::new("memory.copy_nothing", "A copy of no bytes succeeds.", copy_nothing),
    Case::new(
        "memory.copy_unknown",
        "A copy from an unknown address is refused and ruins nothing.",
        copy_unknown,
    ),
    Case::new(
        "memory.copy_beyond",
        "A copy beyond the end of an allocation is refused and ruins nothing.",
        copy_beyond,
    ),
    Case::new("memory.sets", "Memsets of 8, 16 and 32 bits fill exactly their range.", sets),
    Case::new("memory.set_unaligned", "A 32-bit memset to an odd address is refused.", unaligned),
    Case::new("memory.set_2d", "A pitched memset leaves the gaps alone.", set_2d),
    Case::new("memory.managed", "Managed memory is read and written by host and device.", managed),
];

fn zero(cx: &Cx) -> Outcome {
    refused("cuMemAlloc(0)", cx.mem_alloc(0), Code::INVALID_VALUE)
}

fn aligned(cx: &Cx) -> Outcome {
    let sizes = [1, 100, 4097, 1 << 20, 5 << 20];
    let buffers: Vec<_> = sizes.iter().map(|&n| cx.buffer(n)).collect::<Result<_, _>>()?;
    holds("aligned", buffers.iter().all(|b| b.at % 256 == 0))?;
    let mut ranges: Vec<_> =
        buffers.iter().zip(sizes).map(|(b, n)| (b.at, b.at + n as u64)).collect();
    ranges.sort_unstable();
    holds("apart", ranges.windows(2).all(|w| w[0].1 <= w[1].0))
}

fn too_much(cx: &Cx) -> Outcome {
    let total = cx.device_total_mem(cx.device)?;
    refused("twice the card", cx.mem_alloc(2 * total), Code::OUT_OF_MEMORY)?;
    cx.buffer(1 << 20).map(drop)
}

fn info(cx: &Cx) -> Outcome {
    let bytes = 64 << 20;
    let (before, total) = cx.mem_info()?;
    let buffer = cx.buffer(bytes)?;
    let (during, _) = cx.mem_info()?;
    drop(buffer);
    let (after, _) = cx.mem_info()?;
    holds("free is less than total", before <= total)?;
    holds("it shrank", during + bytes <= before)?;
    holds("it grew", after >= during + bytes)
}

fn free_null(cx: &Cx) -> Outcome {
    Ok(cx.mem_free(0)?)
}

fn free_interior(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(1 << 20)?;
    refused("inside", cx.mem_free(buffer.at + 256), Code::INVALID_VALUE)?;
    Ok(cx.set_d8(buffer.at, 1, 1 << 20)?)
}

fn free_twice(cx: &Cx) -> Outcome {
    let at = cx.mem_alloc(1 << 20)?;
    cx.mem_free(at)?;
    refused("again", cx.mem_free(at), Code::INVALID_VALUE)
}

fn free_foreign(cx: &Cx) -> Outcome {
    refused("0x1000", cx.mem_free(0x1000), Code::INVALID_VALUE)?;
    let word = 0u32;
    refused("a local variable", cx.mem_free(&raw const word as u64), Code::INVALID_VALUE)
}

fn free_waits(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc(1 << 20)?;
    let gate = cx.hold(*stream)?;
    cx.set_d8_async(at, 1, 1 << 20, *stream)?;
    gate.open_after(Duration::from_millis(50));
    cx.mem_free(at)?;
    same("the stream has passed", cx.stream_query(*stream), Ok(()))
}

fn copy_free_read(cx: &Cx) -> Outcome {
    const BYTES: usize = 1 << 20;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let host = cx.host_alloc(BYTES, 0)?;
    // SAFETY: pinned memory of this size, and the stream is idle.
    unsafe { std::slice::from_raw_parts_mut(host.cast::<u8>(), BYTES) }.fill(0);
    let at = cx.mem_alloc(BYTES)?;
    cx.set_d8(at, 0x77, BYTES)?;
    if let Ok(gate) = cx.hold(*stream) {
        gate.open_after(Duration::from_millis(30));
    }
    // SAFETY: pinned memory of this size, alive until the end.
    unsafe { cx.copy_d2h_async(host, at, BYTES, *stream) }?;
    cx.mem_free(at)?;
    // SAFETY: as above; that the copy is complete is what is being asked.
    let seen = unsafe { std::slice::from_raw_parts(host.cast::<u8>(), BYTES) }.to_vec();
    cx.stream_synchronize(*stream)?;
    // SAFETY: used by nobody any more.
    unsafe { cx.host_free(host) }?;
    all_same("the host's bytes", &seen, 0x77)
}

fn pitch(cx: &Cx) -> Outcome {
    let (at, pitch) = cx.mem_alloc_pitch(1000, 16, 4)?;
    let range = cx.address_range(at);
    let set = cx.set_2d_d8(at, pitch, 1, 1000, 16);
    cx.mem_free(at)?;
    holds("wide enough", pitch >= 1000 && pitch.is_multiple_of(16))?;
    holds("long enough", range?.1 >= pitch * 15 + 1000)?;
    Ok(set?)
}

fn element(cx: &Cx) -> Outcome {
    refused("5", cx.mem_alloc_pitch(1000, 16, 5), Code::INVALID_VALUE)
}

fn async_after_free(cx: &Cx) -> Outcome {
    const BYTES: usize = 1 << 20;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let out = cx.buffer(BYTES)?;
    let at = cx.mem_alloc_async(BYTES, *stream)?;
    cx.set_d8_async(at, 5, BYTES, *stream)?;
    cx.copy_d2d_async(out.at, at, BYTES, *stream)?;
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    all_same("copied before the free", &cx.read::<u8>(out.at, BYTES)?, 5)
}

fn async_twice(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_async(1 << 20, *stream)?;
    cx.mem_free_async(at, *stream)?;
    refused("again", cx.mem_free_async(at, *stream), Code::INVALID_VALUE)?;
    Ok(cx.stream_synchronize(*stream)?)
}

fn async_freed_plainly(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_async(1 << 20, *stream)?;
    cx.set_d8_async(at, 5, 1 << 20, *stream)?;
    cx.stream_synchronize(*stream)?;
    Ok(cx.mem_free(at)?)
}

fn plain_freed_async(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc(1 << 20)?;
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    refused("again", cx.mem_free(at), Code::INVALID_VALUE)
}

fn copies(cx: &Cx) -> Outcome {
    const WORDS: usize = 10_000;
    let from: Vec<u32> = (0..WORDS as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let (a, b) = (cx.buffer(4 * WORDS)?, cx.buffer(4 * WORDS)?);
    cx.upload(a.at, &from)?;
    cx.copy_d2d(b.at, a.at, 4 * WORDS)?;
    holds("HtoD, DtoD, DtoH", cx.read::<u32>(b.at, WORDS)? == from)?;
    cx.set_d8(b.at, 0, 4 * WORDS)?;
    // SAFETY: both sides are device memory.
    unsafe { cx.copy(b.at, a.at, 4 * WORDS) }?;
    holds("cuMemcpy", cx.read::<u32>(b.at, WORDS)? == from)?;
    cx.set_d8(b.at, 0, 4 * WORDS)?;
    cx.copy_peer((b.at, cx.context), (a.at, cx.context), 4 * WORDS)?;
    holds("cuMemcpyPeer", cx.read::<u32>(b.at, WORDS)? == from)?;
    cx.set_d8(b.at, 0, 4 * WORDS)?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    cx.copy_peer_async((b.at, cx.context), (a.at, cx.context), 4 * WORDS, *stream)?;
    let mut back = vec![0u32; WORDS];
    // SAFETY: `back` lives and is untouched until the synchronise.
    unsafe { cx.copy_async(back.as_mut_ptr() as u64, b.at, 4 * WORDS, *stream) }?;
    cx.stream_synchronize(*stream)?;
    holds("cuMemcpyPeerAsync and cuMemcpyAsync", back == from)
}

fn copy_2d(cx: &Cx) -> Outcome {
    const PITCH: usize = 512;
    let rows: Vec<u8> = (0..8 * 100).map(|i| i as u8).collect();
    let buffer = cx.buffer(8 * PITCH)?;
    cx.set_d8(buffer.at, 0xEE, 8 * PITCH)?;
    let host = Side::Host(rows.as_ptr().cast_mut().cast(), 100);
    // SAFETY: the host side is eight rows of a hundred bytes.
    unsafe { cx.copy_2d(&Copy2d::new(Side::Device(buffer.at, PITCH), host, 100, 8)) }?;
    let seen: Vec<u8> = cx.read(buffer.at, 8 * PITCH)?;
    for (got, sent) in seen.chunks(PITCH).zip(rows.chunks(100)) {
        holds("the row", got[..100] == *sent)?;
        all_same("the gap", &got[100..], 0xEE)?;
    }
    Ok(())
}

fn copy_nothing(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(256)?;
    Ok(cx.copy_d2d(buffer.at, buffer.at + 128, 0)?)
}

fn copy_unknown(cx: &Cx) -> Outcome {
    let mut byte = [0u8];
    refused("0x1000", cx.download(&mut byte, 0x1000), Code::INVALID_VALUE)?;
    let reserved = cx.reserve(cx.granule()?, 0, 0)?;
    let copied = cx.download(&mut byte, reserved);
    cx.address_free(reserved, cx.granule()?)?;
    refused("a reservation", copied, Code::INVALID_VALUE)?;
    Ok(cx.ctx_synchronize()?)
}

fn copy_beyond(cx: &Cx) -> Outcome {
    const BYTES: usize = 2 << 20;
    let buffer = cx.buffer(BYTES)?;
    let mut out = vec![0u8; 2 * BYTES];
    let copied = cx.download(&mut out, buffer.at);
    if copied.is_ok() {
        return Err(Stop::skip("another allocation lies right behind it"));
    }
    refused("twice its size", copied, Code::INVALID_VALUE)?;
    Ok(cx.ctx_synchronize()?)
}

fn sets(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    cx.set_d8(buffer.at, 0, 4096)?;
    cx.set_d8(buffer.at + 1, 0xAB, 3)?;
    cx.set_d16(buffer.at + 16, 0x1234, 4)?;
    cx.set_d32(buffer.at + 64, 0xDEAD_BEEF, 2)?;
    let seen: Vec<u8> = cx.read(buffer.at, 4096)?;
    let mut wanted = vec![0u8; 4096];
    wanted[1..4].fill(0xAB);
    for i in 0..4 {
        wanted[16 + 2 * i..18 + 2 * i].copy_from_slice(&0x1234u16.to_le_bytes());
    }
    for i in 0..2 {
        wanted[64 + 4 * i..68 + 4 * i].copy_from_slice(&0xDEAD_BEEFu32.to_le_bytes());
    }
    holds("exactly these bytes", seen == wanted)
}

fn unaligned(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(4096)?;
    refused("32 bits at 1", cx.set_d32(buffer.at + 1, 0, 1), Code::INVALID_VALUE)?;
    refused("16 bits at 1", cx.set_d16(buffer.at + 1, 0, 1), Code::INVALID_VALUE)
}

fn set_2d(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(8 * 256)?;
    cx.set_d8(buffer.at, 0, 8 * 256)?;
    cx.set_2d_d32_async(buffer.at, 256, 0x0101_0101, (10, 8), Stream::NULL)?;
    let seen: Vec<u8> = cx.read(buffer.at, 8 * 256)?;
    for row in seen.chunks(256) {
        all_same("the row", &row[..40], 1)?;
        all_same("the gap", &row[40..], 0)?;
    }
    Ok(())
}

fn managed(cx: &Cx) -> Outcome {
    if cx.device_attribute(flag::DEVICE_MANAGED_MEMORY, cx.device)? == 0 {
        return Err(Stop::skip("no managed memory"));
    }
    if std::env::var("SIMCUDA_STRICT").is_ok_and(|v| v == "1") {
        return Err(Stop::skip("the host sees no device memory in strict mode"));
    }
    let at = cx.mem_alloc_managed(4096, flag::ATTACH_GLOBAL)?;
    cx.set_d8(at, 9, 4096)?;
    cx.ctx_synchronize()?;
    // SAFETY: managed memory, and the device is idle.
    let host = unsafe { std::slice::from_raw_parts_mut(at as *mut u8, 4096) };
    let first = host.to_vec();
    host.fill(4);
    let second: Vec<u8> = cx.read(at, 4096)?;
    cx.mem_free(at)?;
    all_same("the device's bytes on the host", &first, 9)?;
    all_same("the host's bytes on the device", &second, 4)
}
