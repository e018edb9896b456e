//! Our own work on a device: one internal stream a context, copies and kernels on it, always
//! waited for.
//!
//! Only with the ticket, so one piece of work at a time.

use super::engine::{self, Device};
use super::{fence, ticket};
use crate::codec::cpu::Hint;
use crate::codec::kernels;
use crate::config::{self, Codec};
use crate::driver::{self, CUresult, Handle, code};
use crate::fault;
use parking_lot::Mutex;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// The library's kernels in one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    encode: usize,
    decode: usize,
    search: usize,
}

/// What we have in a context.
#[derive(Clone, Copy, Debug)]
struct Ours {
    ctx: usize,
    stream: Option<usize>,
    kernels: Option<Kernels>,
}

/// Threads of a block that works on a page.
const WARP: u32 = 32;
/// Threads of a block that searches.
const SEARCHERS: u32 = 256;

static OURS: Mutex<Vec<Ours>> = Mutex::new(Vec::new());

fn ours(ctx: usize) -> Ours {
    let known = OURS.lock().iter().find(|o| o.ctx == ctx).copied();
    known.unwrap_or(Ours { ctx, stream: None, kernels: None })
}

fn remember(ours: Ours) {
    let mut all = OURS.lock();
    all.retain(|o| o.ctx != ours.ctx);
    all.push(ours);
}

/// Forgets what we had in a context that has gone.
pub fn context_gone(ctx: usize) {
    OURS.lock().retain(|o| o.ctx != ctx);
    for device in engine::devices() {
        // Another context may get its handle.
        let _ = device.equipped.compare_exchange(ctx, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Destroys the internal stream of a context that is about to go; the kernels go with it.
pub fn context_going(ctx: usize) {
    let stream = ours(ctx).stream;
    context_gone(ctx);
    if let Some(stream) = stream {
        // SAFETY: our own stream; nothing of ours is queued on it outside a ticket.
        let _ = fence::in_context(ctx, |api| unsafe { (api.cuStreamDestroy_v2)(stream as Handle) });
    }
}

/// The internal stream while work is put on it. What it is given stays borrowed until the work is
/// done.
pub struct Queue<'a> {
    api: &'static driver::Api,
    stream: Handle,
    given: PhantomData<std::cell::Cell<&'a mut [u8]>>,
}

/// Puts work on the internal stream of `ctx` and waits for it.
pub fn run<'a, R>(
    ctx: usize,
    work: impl FnOnce(&Queue<'a>) -> Result<R, CUresult>,
) -> Result<R, CUresult> {
    let mut known = ours(ctx);
    fence::in_context(ctx, |api| {
        let stream = match known.stream {
            Some(stream) => stream as Handle,
            None => {
                let mut stream = std::ptr::null_mut();
                const NON_BLOCKING: u32 = 1;
                // SAFETY: `stream` is a live local.
                done(unsafe { (api.cuStreamCreate)(&mut stream, NON_BLOCKING) })?;
                known.stream = Some(stream as usize);
                remember(known);
                stream
            }
        };
        // Waits for what was queued however this ends, by a panic too: it may still be on its way
        // to memory that is about to be used again or unmapped.
        let waiting = Waiting { api, stream };
        let queued = work(&Queue { api, stream, given: PhantomData });
        std::mem::forget(waiting);
        // SAFETY: our own stream of this context.
        let waited = done(unsafe { (api.cuStreamSynchronize)(stream) });
        if waited.is_err() {
            drain(api, stream);
        }
        waited.and(queued)
    })?
}

fn done(result: CUresult) -> Result<(), CUresult> {
    if result == code::SUCCESS { Ok(()) } else { Err(result) }
}

struct Waiting {
    api: &'static driver::Api,
    stream: Handle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drain(self.api, self.stream);
    }
}

/// Waits until nothing of ours can be on its way any more. A context that refuses every wait is
/// dead, and nothing runs in it.
#[cold]
fn drain(api: &driver::Api, stream: Handle) {
    // SAFETY: our own stream of the current context; the other call takes nothing.
    let waited = unsafe {
        (api.cuStreamSynchronize)(stream) == code::SUCCESS
            || (api.cuCtxSynchronize)() == code::SUCCESS
    };
    if !waited {
        tracing::debug!("a context that cannot be waited for");
    }
}

impl<'a> Queue<'a> {
    /// Copies device memory to the host.
    pub fn down(&self, ptr: u64, out: &'a mut [u8]) -> Result<(), CUresult> {
        // SAFETY: the caller holds the ticket, so `ptr` stays mapped; `out` is borrowed until the
        // stream was waited for.
        done(unsafe {
            (self.api.cuMemcpyDtoHAsync_v2)(out.as_mut_ptr().cast(), ptr, out.len(), self.stream)
        })
    }

    /// Copies host bytes to the device.
    pub fn up(&self, ptr: u64, bytes: &'a [u8]) -> Result<(), CUresult> {
        // SAFETY: the range was mapped by the caller and nobody else may use it; `bytes` is
        // borrowed until the stream was waited for.
        done(unsafe {
            (self.api.cuMemcpyHtoDAsync_v2)(ptr, bytes.as_ptr().cast(), bytes.len(), self.stream)
        })
    }

    /// Copies device memory.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CUresult> {
        // SAFETY: both ranges are mapped as long as the caller has the ticket, and nobody else
        // may use the one that is written.
        done(unsafe { (self.api.cuMemcpyDtoDAsync_v2)(to, from, bytes, self.stream) })
    }

    /// Codes `count` pages; see `kernels/codec/codec.cu`. All arguments are device memory.
    pub fn encode(&self, kernels: Kernels, call: &Encode) -> Result<(), CUresult> {
        let Encode {
            mut pages, mut lens, mut hint, mut count, mut to, mut blobs, mut scratch, ..
        } = *call;
        let mut params: [*mut c_void; 7] = [
            (&raw mut pages).cast(),
            (&raw mut lens).cast(),
            (&raw mut hint).cast(),
            (&raw mut count).cast(),
            (&raw mut to).cast(),
            (&raw mut blobs).cast(),
            (&raw mut scratch).cast(),
        ];
        self.launch(kernels.encode, call.warps, WARP, &mut params)
    }

    /// Decodes `count` pages.
    pub fn decode(&self, kernels: Kernels, call: &Decode) -> Result<(), CUresult> {
        let Decode { mut from, mut blobs, mut pages, mut count, mut verdicts, mut scratch, .. } =
            *call;
        let mut params: [*mut c_void; 6] = [
            (&raw mut from).cast(),
            (&raw mut blobs).cast(),
            (&raw mut pages).cast(),
            (&raw mut count).cast(),
            (&raw mut verdicts).cast(),
            (&raw mut scratch).cast(),
        ];
        self.launch(kernels.decode, call.warps, WARP, &mut params)
    }

    /// Searches memory for addresses; see `kernels/scan/scan.cu`.
    pub fn search(&self, kernels: Kernels, call: &Search) -> Result<(), CUresult> {
        /// More than any card runs at once.
        const BLOCKS: u32 = 4096;
        let Search { mut ranges, mut count, mut chunks, .. } = *call;
        let Search { mut targets, mut found, mut room, mut taken, .. } = *call;
        let mut params: [*mut c_void; 7] = [
            (&raw mut ranges).cast(),
            (&raw mut count).cast(),
            (&raw mut chunks).cast(),
            (&raw mut targets).cast(),
            (&raw mut found).cast(),
            (&raw mut room).cast(),
            (&raw mut taken).cast(),
        ];
        self.launch(kernels.search, call.chunks.min(BLOCKS), SEARCHERS, &mut params)
    }

    fn launch(
        &self,
        function: usize,
        blocks: u32,
        threads: u32,
        params: &mut [*mut c_void],
    ) -> Result<(), CUresult> {
        let (stream, none) = (self.stream, std::ptr::null_mut());
        // SAFETY: a function of this context's module, with the parameters that its source has; the
        // driver copies them before it returns.
        done(unsafe {
            (self.api.cuLaunchKernel)(
                function as Handle,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream,
                params.as_mut_ptr(),
                none,
            )
        })
    }
}

/// What [`Queue::encode`] is called with: addresses on the device.
#[derive(Clone, Copy, Debug)]
pub struct Encode {
    /// Warps, each with its part of `scratch`.
    pub warps: u32,
    /// An address for each page.
    pub pages: u64,
    /// Bytes of each page.
    pub lens: u64,
    /// What is known of all of them.
    pub hint: Hint,
    /// Number of pages.
    pub count: u32,
    /// Descriptors, written.
    pub to: u64,
    /// Blobs, 64 KiB apart, written.
    pub blobs: u64,
    /// Work space.
    pub scratch: u64,
}

/// What [`Queue::decode`] is called with: addresses on the device.
#[derive(Clone, Copy, Debug)]
pub struct Decode {
    /// Warps, each with its part of `scratch`.
    pub warps: u32,
    /// Descriptors.
    pub from: u64,
    /// Where their places are counted from.
    pub blobs: u64,
    /// An address for each page, written.
    pub pages: u64,
    /// Number of pages.
    pub count: u32,
    /// A word for each page, written: 0 for a good one.
    pub verdicts: u64,
    /// Work space.
    pub scratch: u64,
}

/// What [`Queue::search`] is called with: memory that host and device share.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Ranges.
    pub ranges: u64,
    /// Number of them.
    pub count: u32,
    /// Chunks of them all.
    pub chunks: u32,
    /// Start and bytes of the heap, of pinned host memory, and log2 of the heap's granule.
    pub targets: [u64; 5],
    /// What was found, written.
    pub found: u64,
    /// Entries that it has room for.
    pub room: u64,
    /// How many there were, added to.
    pub taken: u64,
}

/// Copies device memory to the host and waits; on an internal stream of `ctx`.
pub fn download(ctx: usize, ptr: u64, out: &mut [u8]) -> Result<(), CUresult> {
    run(ctx, |queue| queue.down(ptr, out))
}

/// Copies host bytes to the device and waits.
pub fn upload(ctx: usize, ptr: u64, bytes: &[u8]) -> Result<(), CUresult> {
    run(ctx, |queue| queue.up(ptr, bytes))
}

/// Loads the kernels of a context in which memory is being allocated, so that none has to be loaded
/// when memory is short and the device is busy: that may wait for work, and takes memory.
#[inline]
pub fn equip(device: &Device, ctx: usize) {
    if device.equipped.load(Ordering::Relaxed) != ctx {
        equip_now(device, ctx);
    }
}

#[cold]
fn equip_now(device: &Device, ctx: usize) {
    // Where eviction is off nobody needs them, and loading would end a capture. Whoever has the
    // ticket works with them already.
    if !engine::armed() {
        return;
    }
    let Some(_ticket) = ticket::try_take() else { return };
    kernels(ctx);
    device.equipped.store(ctx, Ordering::Relaxed);
}

/// The kernels of `ctx`, loaded at the first call; `None` where pages are coded on the host.
pub fn kernels(ctx: usize) -> Option<Kernels> {
    static REFUSED: Mutex<bool> = Mutex::new(false);
    let mut known = ours(ctx);
    if known.kernels.is_some() || config::get().codec == Codec::Cpu || *REFUSED.lock() {
        return known.kernels;
    }
    fault::point("kernels", "");
    match fence::in_context(ctx, load).and_then(|loaded| loaded) {
        Ok(kernels) => {
            known.kernels = Some(kernels);
            remember(known);
            Some(kernels)
        }
        // There may be later what there is not now.
        Err(code::OUT_OF_MEMORY) => None,
        Err(e) => {
            *REFUSED.lock() = true;
            let text = format!(
                "this card does not take the kernels (error {e}): pages are coded on the host"
            );
            crate::say::once("kernels", &text);
            None
        }
    }
}

fn load(api: &'static driver::Api) -> Result<Kernels, CUresult> {
    let mut module = std::ptr::null_mut();
    // SAFETY: a live local, and an image that ends where its header says.
    done(unsafe { (api.cuModuleLoadData)(&mut module, kernels::FATBIN.as_ptr().cast()) })?;
    let function = |name: &std::ffi::CStr| {
        let mut function = std::ptr::null_mut();
        // SAFETY: a live local, the module made above, a name that ends with zero.
        done(unsafe { (api.cuModuleGetFunction)(&mut function, module, name.as_ptr()) })?;
        // Otherwise its code comes with the first launch. Drivers before 12.4 have no such call.
        // SAFETY: the function got above.
        match unsafe { (api.cuFuncLoad)(function) } {
            code::SUCCESS | code::NOT_FOUND => Ok(function as usize),
            e => Err(e),
        }
    };
    let all = function(kernels::ENCODE).and_then(|encode| {
        let (decode, search) = (function(kernels::DECODE)?, function(kernels::SCAN)?);
        Ok(Kernels { encode, decode, search })
    });
    if all.is_err() {
        // SAFETY: made above, and nobody has it.
        unsafe { (api.cuModuleUnload)(module) };
    }
    all
}
