//! What the driver says about addresses: allocated, pinned, reserved, mapped, unmapped, foreign.

use crate::case::{Case, H200, Outcome, Stop, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, flag};

pub const CASES: &[Case] = &[
    Case::new(
        "pointer.allocation",
        "An allocation is device memory of its device, context and range, inside as at its start.",
        allocation,
    ),
    Case::new("pointer.end", "The byte after an allocation is not part of it.", end),
    Case::new(
        "pointer.buffer_id",
        "Buffer ids differ between allocations, and a new one at an old address has a new id.",
        buffer_id,
    ),
    Case::new("pointer.freed", "A freed address is unknown.", freed),
    Case::new(
        "pointer.host_foreign",
        "Ordinary host memory is unknown to the single query; the list query answers zeros.",
        host_foreign,
    ),
    Case::new("pointer.pinned", "Pinned memory is host memory.", pinned),
    Case::new("pointer.managed", "Managed memory says so.", managed),
    Case::new("pointer.pooled", "Pool memory names its pool.", pooled),
    Case::new(
        "pointer.mapped",
        "Mapped VMM memory is device memory of the mapping's range.",
        mapped,
    )
    .seen_on(H200),
    Case::new(
        "pointer.mapped_segment",
        "The address range of VMM memory is the mapping, not the reservation.",
        mapped_segment,
    ),
    Case::new(
        "pointer.reserved_type",
        "A reserved address without a mapping has no memory type.",
        reserved_type,
    )
    .seen_on(H200),
    Case::new(
        "pointer.reserved_range",
        "A reserved address without a mapping has no address range.",
        reserved_range,
    )
    .seen_on(H200),
    Case::new(
        "pointer.reserved_list",
        "The list query on a reserved address without a mapping succeeds.",
        reserved_list,
    )
    .seen_on(H200),
    Case::new(
        "pointer.unmapped_again",
        "After the unmap an address answers as if it had never been mapped.",
        unmapped_again,
    )
    .seen_on(H200),
    Case::new("pointer.mapped_context", "VMM memory belongs to no context.", mapped_context)
        .seen_on(H200),
    Case::new(
        "pointer.closed",
        "A mapping without access is device memory, but has no device pointer and no range.",
        closed,
    )
    .seen_on(H200),
    Case::new(
        "pointer.remapped_id",
        "Memory that is mapped again has another buffer id.",
        remapped_id,
    )
    .seen_on(H200),
    Case::new(
        "pointer.nothing_list",
        "To the list query an address with nothing behind it is a host pointer of no device.",
        nothing_list,
    )
    .seen_on(H200),
    Case::new(
        "pointer.reserved_whole",
        "The list query knows the reservation of an address without a mapping.",
        reserved_whole,
    )
    .seen_on(H200),
    Case::new("pointer.range_of_nothing", "An unknown address has no range.", range_of_nothing),
    Case::new(
        "pointer.sync_memops",
        "SYNC_MEMOPS can be set on an allocation, not on an unknown address.",
        sync_memops,
    ),
];

fn allocation(cx: &Cx) -> Outcome {
    let bytes = 3 << 20;
    let buffer = cx.buffer(bytes)?;
    for at in [buffer.at, buffer.at + 12345] {
        same("type", cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at)?, 2)?;
        same("context", cx.pointer_context(at)?, cx.context)?;
        let device = cx.pointer_attribute(flag::POINTER_DEVICE_ORDINAL, at)?;
        same("device", device, cx.device as u64)?;
        same("pointer", cx.pointer_attribute(flag::POINTER_DEVICE_POINTER, at)?, at)?;
        same("managed", cx.pointer_attribute(flag::POINTER_IS_MANAGED, at)? & 0xFF, 0)?;
        same("mapped", cx.pointer_attribute(flag::POINTER_MAPPED, at)? & 0xFF, 1)?;
        same("start", cx.pointer_attribute(flag::POINTER_RANGE_START, at)?, buffer.at)?;
        same("size", cx.pointer_attribute(flag::POINTER_RANGE_SIZE, at)?, bytes as u64)?;
        same("range", cx.address_range(at)?, (buffer.at, bytes))?;
    }
    Ok(())
}

fn end(cx: &Cx) -> Outcome {
    let bytes = 2 << 20;
    let buffer = cx.buffer(bytes)?;
    let last = buffer.at + bytes as u64 - 1;
    same("the last byte", cx.address_range(last)?, (buffer.at, bytes))?;
    match cx.address_range(last + 1) {
        Ok((base, _)) => holds("the byte after it is another's", base != buffer.at),
        Err(_) => Ok(()),
    }
}

fn buffer_id(cx: &Cx) -> Outcome {
    let (first, second) = (cx.mem_alloc(1 << 20)?, cx.mem_alloc(1 << 20)?);
    let id = |at| cx.pointer_attribute(flag::POINTER_BUFFER_ID, at);
    let (a, b) = (id(first)?, id(second)?);
    cx.mem_free(first)?;
    let third = cx.mem_alloc(1 << 20)?;
    let c = id(third)?;
    cx.mem_free(second)?;
    cx.mem_free(third)?;
    holds("all differ", a != b && a != c && b != c)
}

fn freed(cx: &Cx) -> Outcome {
    // Larger than what drivers carve small allocations out of.
    let at = cx.mem_alloc(64 << 20)?;
    cx.mem_free(at)?;
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at);
    refused("type", kind, Code::INVALID_VALUE)
}

fn host_foreign(cx: &Cx) -> Outcome {
    let word = 0u64;
    let at = &raw const word as u64;
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at);
    refused("the single query", kind, Code::INVALID_VALUE)?;
    let which = [flag::POINTER_CONTEXT, flag::POINTER_MEMORY_TYPE, flag::POINTER_BUFFER_ID];
    same("the list query", cx.pointer_attributes(&which, at)?, vec![0, 0, 0])
}

fn pinned(cx: &Cx) -> Outcome {
    let host = cx.host_alloc(1 << 16, flag::HOST_MAPPED)?;
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, host as u64);
    let address = cx.pointer_attribute(flag::POINTER_HOST_POINTER, host as u64);
    // SAFETY: allocated above, used by nobody.
    unsafe { cx.host_free(host) }?;
    same("type", kind?, u64::from(flag::MEMORY_HOST))?;
    same("host pointer", address?, host as u64)
}

fn managed(cx: &Cx) -> Outcome {
    if cx.device_attribute(flag::DEVICE_MANAGED_MEMORY, cx.device)? == 0 {
        return Err(Stop::skip("no managed memory"));
    }
    let at = cx.mem_alloc_managed(1 << 20, flag::ATTACH_GLOBAL)?;
    let says = cx.pointer_attribute(flag::POINTER_IS_MANAGED, at);
    cx.mem_free(at)?;
    same("managed", says? & 0xFF, 1)
}

fn pooled(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_async(1 << 20, *stream)?;
    let pool = cx.pointer_attribute(flag::POINTER_MEMPOOL, at);
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at);
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    same("pool", pool? as usize, cx.default_pool(cx.device)?.0)?;
    same("type", kind?, u64::from(flag::MEMORY_DEVICE))
}

fn mapped(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(2)?;
    let at = mapping.at + 4096;
    same("type", cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at)?, 2)?;
    let device = cx.pointer_attribute(flag::POINTER_DEVICE_ORDINAL, at)?;
    same("device", device, cx.device as u64)?;
    same("mapped", cx.pointer_attribute(flag::POINTER_MAPPED, at)? & 0xFF, 1)?;
    same("range", cx.address_range(at)?, (mapping.at, mapping.bytes))
}

fn mapped_segment(cx: &Cx) -> Outcome {
    let granule = cx.granule()?;
    let at = cx.reserve(4 * granule, 0, 0)?;
    let second = at + granule as u64;
    let handle = cx.create(granule, cx.device)?;
    cx.map(second, granule, handle)?;
    cx.allow(second, granule, cx.device)?;
    let range = cx.address_range(second + 100);
    cx.unmap(second, granule)?;
    cx.release(handle)?;
    cx.address_free(at, 4 * granule)?;
    same("range", range?, (second, granule))
}

/// Asks about a reserved address without a mapping.
fn on_reserved<T>(cx: &Cx, ask: impl FnOnce(u64) -> T) -> Result<T, Stop> {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let answer = ask(at);
    cx.address_free(at, bytes)?;
    Ok(answer)
}

fn reserved_type(cx: &Cx) -> Outcome {
    let kind = on_reserved(cx, |at| cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, at))?;
    refused("type", kind, Code::INVALID_VALUE)
}

fn reserved_range(cx: &Cx) -> Outcome {
    match on_reserved(cx, |at| cx.address_range(at))? {
        Err(Code::NOT_FOUND | Code::INVALID_VALUE) => Ok(()),
        other => refused("range", other, Code::NOT_FOUND),
    }
}

fn reserved_list(cx: &Cx) -> Outcome {
    let which = [flag::POINTER_MEMORY_TYPE, flag::POINTER_CONTEXT];
    let said = on_reserved(cx, |at| cx.pointer_attributes(&which, at))??;
    same("type and context", said, vec![0, 0])
}

fn unmapped_again(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    let kind = cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, mapping.at);
    refused("type", kind, Code::INVALID_VALUE)
}

fn mapped_context(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    same("context", cx.pointer_attribute(flag::POINTER_CONTEXT, mapping.at)?, 0)
}

fn closed(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    cx.map(mapping.at, mapping.bytes, mapping.handle)?;
    same("type", cx.pointer_attribute(flag::POINTER_MEMORY_TYPE, mapping.at)?, 2)?;
    same("mapped", cx.pointer_attribute(flag::POINTER_MAPPED, mapping.at)? & 0xFF, 1)?;
    let pointer = cx.pointer_attribute(flag::POINTER_DEVICE_POINTER, mapping.at);
    refused("pointer", pointer, Code::INVALID_VALUE)?;
    let list = cx.pointer_attributes(&[flag::POINTER_DEVICE_POINTER], mapping.at)?;
    same("pointer of the list", list, vec![0])?;
    refused("range", cx.address_range(mapping.at), Code::NOT_FOUND)
}

fn remapped_id(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let before = cx.pointer_attribute(flag::POINTER_BUFFER_ID, mapping.at)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    cx.map(mapping.at, mapping.bytes, mapping.handle)?;
    cx.allow(mapping.at, mapping.bytes, cx.device)?;
    let after = cx.pointer_attribute(flag::POINTER_BUFFER_ID, mapping.at)?;
    holds("another id", before != after)
}

fn nothing_list(cx: &Cx) -> Outcome {
    let which = [flag::POINTER_HOST_POINTER, flag::POINTER_DEVICE_POINTER];
    let device = [flag::POINTER_DEVICE_ORDINAL];
    let ask = |at| -> Outcome {
        same("pointers", cx.pointer_attributes(&which, at)?, vec![at, 0])?;
        same("device", cx.pointer_attributes(&device, at)?[0] as i32, -2)
    };
    on_reserved(cx, ask)??;
    let at = cx.reserve(cx.granule()?, 0, 0)?;
    cx.address_free(at, cx.granule()?)?;
    ask(at)
}

fn reserved_whole(cx: &Cx) -> Outcome {
    let which = [flag::POINTER_RANGE_START, flag::POINTER_RANGE_SIZE];
    let (at, list) = on_reserved(cx, |at| (at, cx.pointer_attributes(&which, at + 512)))?;
    same("range", list?, vec![at, cx.granule()? as u64])
}

fn range_of_nothing(cx: &Cx) -> Outcome {
    match cx.address_range(0x10) {
        Err(Code::NOT_FOUND | Code::INVALID_VALUE) => Ok(()),
        other => refused("range", other, Code::NOT_FOUND),
    }
}

fn sync_memops(cx: &Cx) -> Outcome {
    let buffer = cx.buffer(1 << 20)?;
    cx.set_sync_memops(buffer.at, true)?;
    refused("unknown", cx.set_sync_memops(0x10, true), Code::INVALID_VALUE)
}
