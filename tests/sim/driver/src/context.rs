//! Contexts: who is current, what is queued in them, whether they have failed.

use crate::abi::{Handle, Outcome, code};
use crate::handles::Id;
use crate::schedule::Item;
use crate::sim;
use crate::stream::Stream;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A context.
#[derive(Debug)]
pub struct Context {
    id: Id,
    pub device: usize,
    pub primary: bool,
    pub flags: AtomicU32,
    error: AtomicU32,
    pub order: Mutex<Order>,
    /// Devices whose memory it may access.
    pub peers: AtomicU32,
}

/// What the rules of stream order need to know.
#[derive(Debug, Default)]
pub struct Order {
    /// Last item of the legacy stream.
    pub legacy: Option<Arc<Item>>,
    /// Live streams, the legacy one included.
    pub streams: Vec<Arc<Stream>>,
    /// Last items of destroyed streams, and whether the stream was a blocking one.
    pub leftovers: Vec<(bool, Arc<Item>)>,
}

static LIVE: Mutex<Option<HashMap<usize, Arc<Context>>>> = Mutex::new(None);
/// Handles of contexts that have ended and have not come back.
static ENDED: Mutex<Option<HashSet<usize>>> = Mutex::new(None);
static PRIMARY: Mutex<[Primary; crate::card::MAX]> =
    Mutex::new([const { Primary::new() }; crate::card::MAX]);

struct Primary {
    ctx: Option<Arc<Context>>,
    retained: u32,
    flags: u32,
}

impl Primary {
    const fn new() -> Primary {
        Primary { ctx: None, retained: 0, flags: 0 }
    }
}

thread_local! {
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The thread's stack of current contexts; an empty one while the thread ends.
fn with_stack<T>(f: impl Fn(&mut Vec<usize>) -> T) -> T {
    STACK.try_with(|s| f(&mut s.borrow_mut())).unwrap_or_else(|_| f(&mut Vec::new()))
}

impl Context {
    fn new(device: usize, primary: bool, flags: u32) -> Arc<Context> {
        let ctx = Arc::new(Context {
            id: Id::new(),
            device,
            primary,
            flags: AtomicU32::new(flags),
            error: AtomicU32::new(0),
            order: Mutex::new(Order::default()),
            peers: AtomicU32::new(1 << device),
        });
        let legacy = Stream::new(&ctx, true, 0);
        ctx.order.lock().streams.push(legacy);
        ENDED.lock().get_or_insert_default().remove(&(ctx.handle() as usize));
        LIVE.lock().get_or_insert_default().insert(ctx.handle() as usize, ctx.clone());
        ctx
    }

    /// Its handle.
    pub fn handle(&self) -> Handle {
        self.id.get() as Handle
    }

    /// The error every later call returns; 0 for none.
    pub fn sticky(&self) -> u32 {
        self.error.load(Ordering::Acquire)
    }

    /// Device work has faulted.
    pub fn fault(&self) {
        self.error.store(code::ILLEGAL_ADDRESS, Ordering::Release);
    }

    /// The legacy stream.
    pub fn legacy(&self) -> Outcome<Arc<Stream>> {
        self.order.lock().streams.first().cloned().ok_or(code::CONTEXT_IS_DESTROYED)
    }

    /// The last item of every stream, destroyed ones included.
    pub fn last_items(&self) -> Vec<Arc<Item>> {
        let mut order = self.order.lock();
        order.leftovers.retain(|(_, i)| !i.is_done());
        let mut all: Vec<_> = order.leftovers.iter().map(|(_, i)| i.clone()).collect();
        all.extend(order.streams.iter().filter_map(|s| s.last()));
        all
    }

    /// Waits for everything that was queued.
    pub fn synchronize(&self) -> Outcome {
        for item in self.last_items() {
            crate::schedule::wait(&item);
        }
        match self.sticky() {
            0 => Ok(()),
            e => Err(e),
        }
    }
}

/// The live context with this handle.
pub fn find(handle: Handle) -> Outcome<Arc<Context>> {
    let live = LIVE.lock();
    live.as_ref().and_then(|l| l.get(&(handle as usize))).cloned().ok_or(code::INVALID_CONTEXT)
}

/// The live context that the program names in a call. One that has ended is an error of the
/// program's that a real driver does not survive.
pub fn named(handle: Handle) -> Outcome<Arc<Context>> {
    let found = find(handle);
    let ended = ENDED.lock().as_ref().is_some_and(|e| e.contains(&(handle as usize)));
    if found.is_err() && ended {
        crate::report::destroyed_context();
    }
    found
}

/// The current context, which has not failed.
pub fn current() -> Outcome<Arc<Context>> {
    let ctx = current_even_failed()?;
    match ctx.sticky() {
        0 => Ok(ctx),
        e => Err(e),
    }
}

/// The current context, failed or not.
pub fn current_even_failed() -> Outcome<Arc<Context>> {
    sim::ready()?;
    match current_handle() as usize {
        0 => Err(code::INVALID_CONTEXT),
        handle => find(handle as Handle).map_err(|_| code::CONTEXT_IS_DESTROYED),
    }
}

/// Handle of the current context; null for none.
pub fn current_handle() -> Handle {
    with_stack(|stack| stack.last().copied().unwrap_or(0)) as Handle
}

/// Replaces the top of the thread's stack.
pub fn set(handle: Handle) -> Outcome {
    if !handle.is_null() {
        named(handle)?;
    }
    with_stack(|stack| {
        stack.pop();
        if !handle.is_null() {
            stack.push(handle as usize);
        }
    });
    Ok(())
}

/// Puts a context on top.
pub fn push(handle: Handle) -> Outcome {
    named(handle)?;
    with_stack(|stack| stack.push(handle as usize));
    Ok(())
}

/// Takes the top off.
pub fn pop() -> Outcome<Handle> {
    with_stack(Vec::pop).map(|h| h as Handle).ok_or(code::INVALID_CONTEXT)
}

/// Makes a context and makes it current.
pub fn create(device: usize, flags: u32) -> Handle {
    let ctx = Context::new(device, false, flags);
    with_stack(|stack| stack.push(ctx.handle() as usize));
    ctx.handle()
}

/// Ends a context: its work finishes, its streams, memory and modules go with it.
pub fn destroy(handle: Handle) -> Outcome {
    let ctx = named(handle)?;
    if ctx.primary {
        return Err(code::INVALID_CONTEXT);
    }
    end(&ctx);
    with_stack(|stack| {
        if stack.last() == Some(&(handle as usize)) {
            stack.pop();
        }
    });
    Ok(())
}

fn end(ctx: &Arc<Context>) {
    let _ = ctx.synchronize();
    let handle = ctx.handle() as usize;
    crate::stream::context_gone(handle);
    crate::memory::context_gone(handle);
    crate::loaded::context_gone(handle);
    if let Some(live) = LIVE.lock().as_mut() {
        live.remove(&handle);
    }
    ENDED.lock().get_or_insert_default().insert(handle);
    let mut order = ctx.order.lock();
    order.streams.clear();
    order.legacy = None;
    order.leftovers.clear();
}

/// Retains the primary context of a device.
pub fn retain_primary(device: usize) -> Handle {
    let mut all = PRIMARY.lock();
    let primary = &mut all[device];
    let flags = primary.flags;
    let ctx = primary.ctx.get_or_insert_with(|| Context::new(device, true, flags));
    let handle = ctx.handle();
    primary.retained += 1;
    handle
}

/// Releases it once; the last release ends it.
pub fn release_primary(device: usize) -> Outcome {
    let gone = {
        let mut all = PRIMARY.lock();
        let primary = &mut all[device];
        if primary.retained == 0 {
            return Err(code::INVALID_CONTEXT);
        }
        primary.retained -= 1;
        if primary.retained == 0 { primary.ctx.take() } else { None }
    };
    if let Some(ctx) = gone {
        end(&ctx);
    }
    Ok(())
}

/// Ends the primary context whoever retains it.
pub fn reset_primary(device: usize) {
    let gone = {
        let mut all = PRIMARY.lock();
        all[device].retained = 0;
        all[device].ctx.take()
    };
    if let Some(ctx) = gone {
        end(&ctx);
    }
}

/// Flags and whether it is active.
pub fn primary_state(device: usize) -> (u32, bool) {
    let all = PRIMARY.lock();
    (all[device].flags, all[device].ctx.is_some())
}

/// Flags of the next primary context.
pub fn set_primary_flags(device: usize, flags: u32) {
    PRIMARY.lock()[device].flags = flags;
}
