//! Reservations, handles, mappings and access.

use crate::case::{Case, Outcome, all_same, holds, refused, same};
use crate::context::Cx;
use cuda_client::{AccessDesc, AllocationProp, Code, MemHandle, MemLocation, flag};

pub const CASES: &[Case] = &[
    Case::new("vmm.granularity", "The granularity is a power of two.", granularity),
    Case::new(
        "vmm.round_trip",
        "Reserve, create, map and set access give memory that keeps its bytes.",
        round_trip,
    ),
    Case::new("vmm.reserve_sizes", "A reservation of no or odd size is refused.", reserve_sizes),
    Case::new(
        "vmm.reserve_alignment",
        "A reservation honours its alignment, and an alignment that is no power of two is refused.",
        reserve_alignment,
    ),
    Case::new(
        "vmm.reserve_taken_hint",
        "A hint that is taken is no error: the reservation lies elsewhere.",
        reserve_taken_hint,
    ),
    Case::new("vmm.create_sizes", "A handle of no or odd size is refused.", create_sizes),
    Case::new("vmm.create_properties", "A handle with unknown properties is refused.", properties),
    Case::new(
        "vmm.create_too_much",
        "A handle larger than the card is out of memory, and the next one is not.",
        create_too_much,
    ),
    // On a card the cases behind it failed in the same process.
    Case::new("vmm.map_outside", "Mapping outside of a reservation is refused.", map_outside)
        .isolated(),
    Case::new("vmm.map_twice", "Mapping over a mapping is refused.", map_twice),
    Case::new("vmm.map_offset", "Mapping from inside of a handle is refused.", map_offset),
    Case::new("vmm.map_part", "Mapping a part of a handle is refused.", map_part),
    Case::new("vmm.map_stale_handle", "Mapping a released handle is refused.", map_stale_handle),
    Case::new(
        "vmm.alias",
        "One handle mapped at two addresses shows the same bytes at both.",
        alias,
    ),
    Case::new(
        "vmm.release_while_mapped",
        "Memory outlives its released handle while it is mapped, and is free after the unmap.",
        release_while_mapped,
    ),
    Case::new(
        "vmm.remap_keeps_bytes",
        "A handle unmapped and mapped elsewhere keeps its bytes.",
        remap_keeps_bytes,
    ),
    Case::new("vmm.unmap_part", "Unmapping a part of a mapping is refused.", unmap_part),
    Case::new("vmm.unmap_several", "One unmap may cover several whole mappings.", unmap_several),
    Case::new("vmm.unmap_twice", "Unmapping what is not mapped is refused.", unmap_twice),
    Case::new(
        "vmm.free_while_mapped",
        "A reservation with a mapping in it cannot be freed.",
        free_while_mapped,
    ),
    Case::new("vmm.free_part", "A reservation is freed whole or not at all.", free_part),
    Case::new(
        "vmm.access_over_several",
        "One set access may cover several adjacent mappings.",
        access_over_several,
    ),
    Case::new(
        "vmm.access_over_hole",
        "Set access over a range with a hole is refused.",
        access_over_hole,
    ),
    Case::new(
        "vmm.access_says",
        "A new mapping has no access; set access changes that.",
        access_says,
    ),
    Case::new(
        "vmm.no_access_no_copy",
        "A copy from a mapping without access is refused and ruins nothing.",
        no_access_no_copy,
    ),
    Case::new(
        "vmm.access_ends_with_mapping",
        "A range mapped again has no access until it is set again.",
        access_ends_with_mapping,
    ),
    Case::new("vmm.retain", "A retained handle is one more reference to the memory.", retain),
    Case::new("vmm.handle_properties", "A handle tells where it was made.", handle_properties),
    Case::new("vmm.release_twice", "A handle released once too often is refused.", release_twice),
    Case::new(
        "vmm.charged_once",
        "Free memory shrinks by a handle at its creation, not at its mapping.",
        charged_once,
    ),
    Case::new(
        "vmm.free_by_mem_free",
        "cuMemFree does not take a reservation's address.",
        free_by_mem_free,
    ),
];

fn granularity(cx: &Cx) -> Outcome {
    let minimum = cx.granule()?;
    let prop = AllocationProp::device(cx.device);
    let recommended = cx.granularity_of(&prop, flag::GRANULARITY_RECOMMENDED)?;
    holds("the minimum is a power of two", minimum.is_power_of_two())?;
    holds("the recommended is a multiple of it", recommended % minimum == 0)
}

fn round_trip(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(2)?;
    let words: Vec<u32> = (0..(mapping.bytes / 4) as u32).collect();
    cx.upload(mapping.at, &words)?;
    holds("all bytes came back", cx.read::<u32>(mapping.at, words.len())? == words)
}

fn reserve_sizes(cx: &Cx) -> Outcome {
    refused("no size", cx.reserve(0, 0, 0), Code::INVALID_VALUE)?;
    refused("odd size", cx.reserve(cx.granule()? + 1, 0, 0), Code::INVALID_VALUE)
}

fn reserve_alignment(cx: &Cx) -> Outcome {
    let granule = cx.granule()?;
    let alignment = granule * 8;
    let at = cx.reserve(granule, alignment, 0)?;
    cx.address_free(at, granule)?;
    holds("aligned", at % alignment as u64 == 0)?;
    refused("alignment 3", cx.reserve(granule, granule * 3, 0), Code::INVALID_VALUE)
}

fn reserve_taken_hint(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let first = cx.reserve(bytes, 0, 0)?;
    let second = cx.reserve(bytes, 0, first)?;
    cx.address_free(second, bytes)?;
    cx.address_free(first, bytes)?;
    holds("another place", first != second)
}

fn create_sizes(cx: &Cx) -> Outcome {
    refused("no size", cx.create(0, cx.device), Code::INVALID_VALUE)?;
    refused("odd size", cx.create(cx.granule()? + 1, cx.device), Code::INVALID_VALUE)
}

fn properties(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let good = AllocationProp::device(cx.device);
    let wrong_kind = AllocationProp { kind: 77, ..good };
    refused("kind 77", cx.create_with(bytes, &wrong_kind), Code::INVALID_VALUE)?;
    let nowhere = MemLocation { kind: flag::LOCATION_DEVICE, id: 1000 };
    let elsewhere = AllocationProp { location: nowhere, ..good };
    match cx.create_with(bytes, &elsewhere) {
        Err(Code::INVALID_VALUE | Code::INVALID_DEVICE) => Ok(()),
        other => refused("device 1000", other, Code::INVALID_DEVICE),
    }
}

fn create_too_much(cx: &Cx) -> Outcome {
    let granule = cx.granule()?;
    let total = cx.device_total_mem(cx.device)?.next_multiple_of(granule);
    refused("more than the card", cx.create(total * 2, cx.device), Code::OUT_OF_MEMORY)?;
    let handle = cx.create(granule, cx.device)?;
    Ok(cx.release(handle)?)
}

fn map_outside(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let handle = cx.create(2 * bytes, cx.device)?;
    let beyond = cx.map(at, 2 * bytes, handle);
    cx.address_free(at, bytes)?;
    let nowhere = cx.map(at, 2 * bytes, handle);
    cx.release(handle)?;
    refused("beyond the reservation", beyond, Code::INVALID_VALUE)?;
    refused("no reservation", nowhere, Code::INVALID_VALUE)
}

fn map_twice(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let again = cx.map(mapping.at, mapping.bytes, mapping.handle);
    refused("over a mapping", again, Code::INVALID_VALUE)
}

fn map_offset(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let handle = cx.create(2 * bytes, cx.device)?;
    let mapped = cx.map_at(at, bytes, bytes, handle);
    cx.release(handle)?;
    cx.address_free(at, bytes)?;
    refused("offset", mapped, Code::INVALID_VALUE)
}

fn map_part(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(2 * bytes, 0, 0)?;
    let handle = cx.create(2 * bytes, cx.device)?;
    let mapped = cx.map(at, bytes, handle);
    cx.release(handle)?;
    if mapped.is_ok() {
        cx.unmap(at, bytes)?;
    }
    cx.address_free(at, 2 * bytes)?;
    refused("half of a handle", mapped, Code::INVALID_VALUE)
}

fn map_stale_handle(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let handle = cx.create(bytes, cx.device)?;
    cx.release(handle)?;
    let mapped = cx.map(at, bytes, handle);
    cx.address_free(at, bytes)?;
    refused("a released handle", mapped, Code::INVALID_VALUE)?;
    refused("no handle", cx.map(at, bytes, MemHandle(0)), Code::INVALID_VALUE)
}

fn alias(cx: &Cx) -> Outcome {
    let first = cx.mapping(1)?;
    let second = cx.reserve(first.bytes, 0, 0)?;
    cx.map(second, first.bytes, first.handle)?;
    cx.allow(second, first.bytes, cx.device)?;
    cx.set_d8(first.at, 0x5A, first.bytes)?;
    let seen: Vec<u8> = cx.read(second, first.bytes)?;
    cx.unmap(second, first.bytes)?;
    cx.address_free(second, first.bytes)?;
    all_same("the other address", &seen, 0x5A)
}

fn release_while_mapped(cx: &Cx) -> Outcome {
    let bytes = 4 * cx.granule()?;
    let (before, _) = cx.mem_info()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let handle = cx.create(bytes, cx.device)?;
    cx.map(at, bytes, handle)?;
    cx.allow(at, bytes, cx.device)?;
    cx.release(handle)?;
    cx.set_d8(at, 7, bytes)?;
    all_same("after the release", &cx.read::<u8>(at, bytes)?, 7)?;
    let (held, _) = cx.mem_info()?;
    cx.unmap(at, bytes)?;
    let (after, _) = cx.mem_info()?;
    cx.address_free(at, bytes)?;
    holds("still charged while mapped", held + bytes <= before)?;
    holds("free after the unmap", after >= held + bytes)
}

fn remap_keeps_bytes(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let words: Vec<u32> = (0..(mapping.bytes / 4) as u32).map(|i| i ^ 0xABCD).collect();
    cx.upload(mapping.at, &words)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    let other = cx.reserve(mapping.bytes, 0, 0)?;
    cx.map(other, mapping.bytes, mapping.handle)?;
    cx.allow(other, mapping.bytes, cx.device)?;
    let seen: Vec<u32> = cx.read(other, words.len())?;
    cx.unmap(other, mapping.bytes)?;
    cx.address_free(other, mapping.bytes)?;
    holds("all bytes came along", seen == words)
}

fn unmap_part(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(2)?;
    refused("half", cx.unmap(mapping.at, mapping.bytes / 2), Code::INVALID_VALUE)?;
    cx.set_d8(mapping.at, 1, mapping.bytes)?;
    all_same("untouched", &cx.read::<u8>(mapping.at, mapping.bytes)?, 1)
}

/// Two handles side by side, undone by `undo_two`.
fn two(cx: &Cx) -> Result<(u64, usize), crate::case::Stop> {
    let granule = cx.granule()?;
    let at = cx.reserve(2 * granule, 0, 0)?;
    for i in 0..2 {
        let handle = cx.create(granule, cx.device)?;
        cx.map(at + (i * granule) as u64, granule, handle)?;
        cx.release(handle)?;
    }
    Ok((at, granule))
}

fn unmap_several(cx: &Cx) -> Outcome {
    let (at, granule) = two(cx)?;
    cx.unmap(at, 2 * granule)?;
    Ok(cx.address_free(at, 2 * granule)?)
}

fn unmap_twice(cx: &Cx) -> Outcome {
    let bytes = cx.granule()?;
    let at = cx.reserve(bytes, 0, 0)?;
    let unmapped = cx.unmap(at, bytes);
    cx.address_free(at, bytes)?;
    refused("never mapped", unmapped, Code::INVALID_VALUE)?;
    refused("not even reserved", cx.unmap(at, bytes), Code::INVALID_VALUE)
}

fn free_while_mapped(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    refused("mapped", cx.address_free(mapping.at, mapping.bytes), Code::INVALID_VALUE)
}

fn free_part(cx: &Cx) -> Outcome {
    let granule = cx.granule()?;
    let at = cx.reserve(2 * granule, 0, 0)?;
    let half = cx.address_free(at, granule);
    let inside = cx.address_free(at + granule as u64, granule);
    cx.address_free(at, 2 * granule)?;
    refused("the first half", half, Code::INVALID_VALUE)?;
    refused("the second half", inside, Code::INVALID_VALUE)?;
    refused("again", cx.address_free(at, 2 * granule), Code::INVALID_VALUE)
}

fn access_over_several(cx: &Cx) -> Outcome {
    let (at, granule) = two(cx)?;
    cx.allow(at, 2 * granule, cx.device)?;
    cx.set_d8(at, 9, 2 * granule)?;
    let seen: Vec<u8> = cx.read(at, 2 * granule)?;
    cx.unmap(at, 2 * granule)?;
    cx.address_free(at, 2 * granule)?;
    all_same("both halves", &seen, 9)
}

fn access_over_hole(cx: &Cx) -> Outcome {
    let granule = cx.granule()?;
    let at = cx.reserve(2 * granule, 0, 0)?;
    let handle = cx.create(granule, cx.device)?;
    cx.map(at, granule, handle)?;
    let over = cx.allow(at, 2 * granule, cx.device);
    cx.unmap(at, granule)?;
    cx.release(handle)?;
    cx.address_free(at, 2 * granule)?;
    refused("with a hole", over, Code::INVALID_VALUE)
}

fn access_says(cx: &Cx) -> Outcome {
    let (at, granule) = two(cx)?;
    let new = cx.access_of(at, cx.device)?;
    cx.allow(at, granule, cx.device)?;
    let set = cx.access_of(at, cx.device)?;
    let other = cx.access_of(at + granule as u64, cx.device)?;
    cx.unmap(at, 2 * granule)?;
    cx.address_free(at, 2 * granule)?;
    same("new", new, u64::from(flag::ACCESS_NONE))?;
    same("set", set, u64::from(flag::ACCESS_READ_WRITE))?;
    same("the mapping beside it", other, u64::from(flag::ACCESS_NONE))
}

fn no_access_no_copy(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let nobody = AccessDesc { flags: flag::ACCESS_NONE, ..AccessDesc::read_write(cx.device) };
    cx.set_access(mapping.at, mapping.bytes, &[nobody])?;
    let mut byte = [0u8];
    refused("a copy", cx.download(&mut byte, mapping.at), Code::INVALID_VALUE)?;
    cx.ctx_synchronize()?;
    cx.allow(mapping.at, mapping.bytes, cx.device)?;
    Ok(cx.download(&mut byte, mapping.at)?)
}

fn access_ends_with_mapping(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    cx.map(mapping.at, mapping.bytes, mapping.handle)?;
    same("mapped again", cx.access_of(mapping.at, cx.device)?, u64::from(flag::ACCESS_NONE))?;
    Ok(cx.allow(mapping.at, mapping.bytes, cx.device)?)
}

fn retain(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let retained = cx.retain_handle(mapping.at)?;
    cx.set_d8(mapping.at, 3, mapping.bytes)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    cx.release(mapping.handle)?;
    // Only the retained reference holds the memory now.
    cx.map(mapping.at, mapping.bytes, retained)?;
    cx.allow(mapping.at, mapping.bytes, cx.device)?;
    let seen: Vec<u8> = cx.read(mapping.at, mapping.bytes)?;
    cx.unmap(mapping.at, mapping.bytes)?;
    cx.release(retained)?;
    all_same("held by the retained handle", &seen, 3)
}

fn handle_properties(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    let prop = cx.handle_properties(mapping.handle)?;
    same("kind", prop.kind, flag::ALLOCATION_PINNED)?;
    same("location", prop.location, MemLocation::device(cx.device))
}

fn release_twice(cx: &Cx) -> Outcome {
    let handle = cx.create(cx.granule()?, cx.device)?;
    cx.release(handle)?;
    refused("again", cx.release(handle), Code::INVALID_VALUE)
}

fn charged_once(cx: &Cx) -> Outcome {
    let bytes = 8 * cx.granule()?.max(1 << 20);
    let at = cx.reserve(bytes, 0, 0)?;
    let (before, _) = cx.mem_info()?;
    let handle = cx.create(bytes, cx.device)?;
    let (created, _) = cx.mem_info()?;
    cx.map(at, bytes, handle)?;
    cx.allow(at, bytes, cx.device)?;
    let (mapped, _) = cx.mem_info()?;
    cx.unmap(at, bytes)?;
    cx.release(handle)?;
    cx.address_free(at, bytes)?;
    holds("creation takes its bytes", created + bytes <= before)?;
    // Page tables may cost a little; another copy of the bytes would be a mistake.
    holds("mapping does not take them again", mapped + bytes / 2 > created)
}

fn free_by_mem_free(cx: &Cx) -> Outcome {
    let mapping = cx.mapping(1)?;
    refused("cuMemFree", cx.mem_free(mapping.at), Code::INVALID_VALUE)
}
