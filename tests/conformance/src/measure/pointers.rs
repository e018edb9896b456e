//! What every query answers in every state of a virtual address.

use super::said;
use crate::case::Stop;
use crate::context::Cx;
use cuda_client::flag;
use serde_json::{Value, json};

const ATTRIBUTES: &[(&str, u32)] = &[
    ("CONTEXT", flag::POINTER_CONTEXT),
    ("MEMORY_TYPE", flag::POINTER_MEMORY_TYPE),
    ("DEVICE_POINTER", flag::POINTER_DEVICE_POINTER),
    ("HOST_POINTER", flag::POINTER_HOST_POINTER),
    ("SYNC_MEMOPS", flag::POINTER_SYNC_MEMOPS),
    ("BUFFER_ID", flag::POINTER_BUFFER_ID),
    ("IS_MANAGED", flag::POINTER_IS_MANAGED),
    ("DEVICE_ORDINAL", flag::POINTER_DEVICE_ORDINAL),
    ("IS_LEGACY_CUDA_IPC_CAPABLE", flag::POINTER_IS_LEGACY_IPC_CAPABLE),
    ("RANGE_START_ADDR", flag::POINTER_RANGE_START),
    ("RANGE_SIZE", flag::POINTER_RANGE_SIZE),
    ("MAPPED", flag::POINTER_MAPPED),
    ("MEMPOOL_HANDLE", flag::POINTER_MEMPOOL),
];

/// Asks in each state: allocated, reserved, mapped, accessible, unmapped, mapped again, freed.
pub fn run(cx: &Cx) -> Result<Value, Stop> {
    let bytes = 4 * cx.granule()?;
    let allocated = cx.buffer(bytes)?;
    let mut states = vec![state(cx, "allocated by cuMemAlloc", allocated.at)];
    let at = cx.reserve(bytes, 0, 0)?;
    states.push(state(cx, "reserved", at));
    let handle = cx.create(bytes, cx.device)?;
    cx.map(at, bytes, handle)?;
    states.push(state(cx, "mapped without access", at));
    cx.allow(at, bytes, cx.device)?;
    states.push(state(cx, "mapped with access", at));
    cx.unmap(at, bytes)?;
    states.push(state(cx, "unmapped", at));
    cx.map(at, bytes, handle)?;
    cx.allow(at, bytes, cx.device)?;
    states.push(state(cx, "mapped again", at));
    cx.unmap(at, bytes)?;
    cx.release(handle)?;
    cx.address_free(at, bytes)?;
    states.push(state(cx, "freed", at));
    Ok(json!({"bytes": bytes, "states": states}))
}

fn state(cx: &Cx, name: &str, base: u64) -> Value {
    // Not the first byte: starts and insides may differ.
    let at = base + 512;
    let single: Vec<Value> = ATTRIBUTES
        .iter()
        .map(|&(attribute, number)| {
            let got = cx.pointer_attribute(number, at);
            json!({"attribute": attribute, "result": said(&got), "value": got.ok()})
        })
        .collect();
    let numbers: Vec<u32> = ATTRIBUTES.iter().map(|&(_, number)| number).collect();
    let list = cx.pointer_attributes(&numbers, at);
    let range = cx.address_range(at);
    let access = cx.access_of(at, cx.device);
    let retained = cx.retain_handle(base);
    if let Ok(handle) = retained {
        let _ = cx.release(handle);
    }
    json!({
        "state": name,
        "address": at,
        "cuPointerGetAttribute": single,
        "cuPointerGetAttributes": {"result": said(&list), "values": list.ok()},
        "cuMemGetAddressRange": {"result": said(&range), "base_and_size": range.ok()},
        "cuMemGetAccess": {"result": said(&access), "flags": access.ok()},
        "cuMemRetainAllocationHandle": said(&retained),
    })
}
