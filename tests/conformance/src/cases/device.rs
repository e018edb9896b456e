//! Initialisation, devices, contexts, names of errors.

use crate::case::{Case, Outcome, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Context, flag};

pub const CASES: &[Case] = &[
    Case::new("device.init_flags", "cuInit refuses flags.", init_flags),
    Case::new("device.version", "The driver's version is at least 12.0.", version),
    Case::new("device.ordinals", "Ordinals from zero to the count exist, others do not.", ordinals),
    Case::new("device.attributes", "The card has VMM and unified addressing.", attributes),
    Case::new("device.total", "cuDeviceTotalMem and cuMemGetInfo agree on the total.", total),
    Case::new("device.error_names", "Error codes have their documented names.", error_names),
    Case::new("device.error_unknown", "An unknown error code has no name.", error_unknown),
    Case::new("context.stack", "Contexts are pushed and popped in order.", stack),
    Case::new("context.pop_empty", "Popping an empty stack is refused.", pop_empty),
    Case::new("context.none", "Without a context calls that need one say so.", none),
    Case::new("context.new_thread", "A new thread has no current context.", new_thread),
    Case::new("context.primary_counts", "The primary context is counted.", primary_counts),
    Case::new("context.created", "A created context is current, and its destruction pops it.", own),
    Case::new(
        "context.destroy_frees",
        "Destroying a context frees its memory, and its streams are gone.",
        destroy_frees,
    ),
    // That a destroyed context is refused is not asked: a real driver crashes in the call.
];

fn init_flags(cx: &Cx) -> Outcome {
    refused("flags 1", cx.init_with(1), Code::INVALID_VALUE)?;
    Ok(cx.init()?)
}

fn version(cx: &Cx) -> Outcome {
    holds("at least 12.0", cx.version()? >= 12000)
}

fn ordinals(cx: &Cx) -> Outcome {
    let count = cx.device_count()?;
    holds("there is one", count > 0)?;
    refused("the count", cx.device(count as i32), Code::INVALID_DEVICE)?;
    refused("-1", cx.device(-1), Code::INVALID_DEVICE)
}

fn attributes(cx: &Cx) -> Outcome {
    same("VMM", cx.device_attribute(flag::DEVICE_VMM, cx.device)?, 1)?;
    same("unified", cx.device_attribute(flag::DEVICE_UNIFIED_ADDRESSING, cx.device)?, 1)?;
    refused("attribute 0", cx.device_attribute(0, cx.device), Code::INVALID_VALUE)
}

fn total(cx: &Cx) -> Outcome {
    same("total", cx.mem_info()?.1, cx.device_total_mem(cx.device)?)
}

fn error_names(cx: &Cx) -> Outcome {
    for code in [Code::INVALID_VALUE, Code::OUT_OF_MEMORY, Code::NOT_READY, Code::ILLEGAL_ADDRESS] {
        let wanted = format!("CUDA_ERROR_{}", code.name().unwrap_or_default());
        same("name", cx.error_name(code)?, wanted)?;
        holds("it has a text", !cx.error_string(code)?.is_empty())?;
    }
    Ok(())
}

fn error_unknown(cx: &Cx) -> Outcome {
    refused("99999", cx.error_name(Code(99999)), Code::INVALID_VALUE)
}

fn stack(cx: &Cx) -> Outcome {
    cx.ctx_push(cx.context)?;
    same("popped", cx.ctx_pop()?, cx.context)?;
    same("still current", cx.ctx_current()?, cx.context)?;
    same("its device", cx.ctx_device()?, cx.device)
}

/// Runs `f` on a new thread with no context.
fn elsewhere(f: impl FnOnce() -> Outcome + Send) -> Outcome {
    std::thread::scope(|scope| {
        let ended = scope.spawn(f).join();
        ended.unwrap_or_else(|_| Err(crate::case::Stop::fail("the thread panicked")))
    })
}

fn pop_empty(cx: &Cx) -> Outcome {
    let driver = cx.driver.clone();
    elsewhere(move || refused("pop", driver.ctx_pop(), Code::INVALID_CONTEXT))
}

fn none(cx: &Cx) -> Outcome {
    let driver = cx.driver.clone();
    elsewhere(move || {
        refused("alloc", driver.mem_alloc(256), Code::INVALID_CONTEXT)?;
        refused("info", driver.mem_info(), Code::INVALID_CONTEXT)?;
        refused("stream", driver.stream_create(0), Code::INVALID_CONTEXT)
    })
}

fn new_thread(cx: &Cx) -> Outcome {
    let driver = cx.driver.clone();
    elsewhere(move || same("current", driver.ctx_current()?, Context::NULL))
}

fn primary_counts(cx: &Cx) -> Outcome {
    same("the same one", cx.primary_retain(cx.device)?, cx.context)?;
    cx.primary_release(cx.device)?;
    holds("still active", cx.primary_state(cx.device)?.1)?;
    cx.buffer(256).map(drop)
}

fn own(cx: &Cx) -> Outcome {
    let context = cx.ctx_create(0, cx.device)?;
    let current = cx.ctx_current();
    cx.ctx_destroy(context)?;
    same("current", current?, context)?;
    same("what was current before", cx.ctx_current()?, cx.context)
}

fn destroy_frees(cx: &Cx) -> Outcome {
    let bytes = 64 << 20;
    let context = cx.ctx_create(0, cx.device)?;
    let allocated = cx.mem_alloc(bytes);
    let during = cx.mem_info();
    cx.ctx_destroy(context)?;
    allocated?;
    let after = cx.mem_info()?.0;
    holds("the memory came back", after >= during?.0 + bytes)
}
