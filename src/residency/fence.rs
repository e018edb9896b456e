//! Waiting for the device: everything submitted before a fence has finished when it passes.
//!
//! Owns: the events of one fence. One event per live context (`cuCtxRecordEvent` covers every
//! stream of it, per-thread default streams and destroyed ones included); on drivers without it
//! one event per registered stream, and no eviction once per-thread default streams are used.

use super::thread;
use crate::driver::{self, CUresult, Handle, code};
use crate::registry::{contexts, streams};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const DISABLE_TIMING: u32 = 2;
/// The first driver with a fence for all streams of a context.
const CTX_RECORD_EVENT: i32 = 12050;

/// Recorded events, one or more per context.
#[derive(Debug)]
pub struct Fence {
    /// Contexts and events: the driver's handles, as numbers, for a fence goes from thread to
    /// thread.
    events: Vec<(usize, usize)>,
    /// Events of `LEFT` that it stands behind as well.
    left: Vec<usize>,
}

/// The last events of streams that were destroyed with work in them, and their contexts: without
/// a fence for whole contexts nothing else covers that work. Changed by destroy hooks and while a
/// fence is recorded; an event goes once it has passed, or with its context.
static LEFT: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// A stream of `ctx` is about to be destroyed; later fences stand behind its work. The program may
/// not wait for it: only what comes after this call may let it finish.
pub fn stream_going(ctx: usize, stream: usize) -> CUresult {
    if driver::version() >= CTX_RECORD_EVENT {
        return code::SUCCESS;
    }
    let recorded = in_context(ctx, |api| {
        let event = new_event(api)?;
        // SAFETY: a live stream, and an event of its context.
        let recorded = done(unsafe { (api.cuEventRecord)(event, stream as Handle) });
        match recorded {
            Ok(()) => LEFT.lock().push((ctx, event as usize)),
            // SAFETY: made above.
            Err(_) => drop(unsafe { (api.cuEventDestroy_v2)(event) }),
        }
        recorded
    });
    recorded.and_then(|r| r).err().unwrap_or(code::SUCCESS)
}

/// A context is about to go, with its events.
pub fn context_going(ctx: usize) {
    LEFT.lock().retain(|&(c, _)| c != ctx);
}

/// The events of destroyed streams of `ctx` that have not passed yet.
fn left_in(ctx: usize, api: &driver::Api) -> Vec<usize> {
    let mine: Vec<usize> =
        LEFT.lock().iter().filter(|&&(c, _)| c == ctx).map(|&(_, event)| event).collect();
    let pending = |&event: &usize| {
        // SAFETY: events leave `LEFT` before they are destroyed, all of them here.
        if unsafe { (api.cuEventQuery)(event as Handle) } != code::SUCCESS {
            return true;
        }
        LEFT.lock().retain(|&(_, e)| e != event);
        // SAFETY: ours, and nobody finds it any more.
        unsafe { (api.cuEventDestroy_v2)(event as Handle) };
        false
    };
    mine.into_iter().filter(pending).collect()
}

/// Runs `f` with `ctx` current on this thread.
pub fn in_context<R>(ctx: usize, f: impl FnOnce(&'static driver::Api) -> R) -> Result<R, CUresult> {
    let api = driver::api().ok_or(code::NOT_INITIALIZED)?;
    // SAFETY: the registry keeps destroy hooks of a live context waiting while we use it; a
    // handle that died all the same is an error, not a crash.
    match unsafe { (api.cuCtxPushCurrent_v2)(ctx as Handle) } {
        code::SUCCESS => {}
        e => return Err(e),
    }
    let _pushed = Pushed(api);
    Ok(f(api))
}

/// A context of ours on top of the thread's stack; a panic takes it off as well.
struct Pushed(&'static driver::Api);

impl Drop for Pushed {
    fn drop(&mut self) {
        pop(self.0);
    }
}

/// Takes the context that was pushed last off the thread's stack. Twice if it must: one of ours
/// that stayed there would be the program's current one.
fn pop(api: &driver::Api) {
    for _ in 0..2 {
        let mut popped = std::ptr::null_mut();
        // SAFETY: `popped` is a live local; `in_context` has pushed a context.
        if unsafe { (api.cuCtxPopCurrent_v2)(&mut popped) } == code::SUCCESS {
            break;
        }
    }
}

/// A live context of `device`: the calling thread's own if it fits.
pub fn context_on(device: u8) -> Option<usize> {
    if let Some(current) = contexts::current().filter(|c| c.device == device) {
        return Some(current.handle);
    }
    contexts::live().into_iter().find(|c| c.device == device).map(|c| c.handle)
}

/// Records a fence behind all work of the process; `None` when the driver did not take it within
/// `patience`. A driver may let any call wait for room in a queue, and the room may depend on the
/// thread that asks here. So another thread makes the calls, and only waiting is done here.
pub fn record_all(patience: Duration) -> Result<Option<Fence>, CUresult> {
    static THREAD: OnceLock<bool> = OnceLock::new();
    if !THREAD.get_or_init(|| thread::start("coldpress-fence", serve)) {
        return record().map(Some);
    }
    let deadline = Instant::now() + patience;
    let mut desk = DESK.lock();
    // An order that was given up on may still be stuck in the driver.
    let busy = |order: &mut Order| !matches!(order, Order::None);
    if CHANGED.wait_while_until(&mut desk, busy, deadline).timed_out() {
        return Ok(None);
    }
    *desk = Order::Asked;
    CHANGED.notify_all();
    CHANGED.wait_while_until(&mut desk, |order| !matches!(order, Order::Done(_)), deadline);
    match std::mem::replace(&mut *desk, Order::None) {
        Order::Done(result) => result.map(Some),
        Order::Recording => {
            *desk = Order::Abandoned;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The one order that the recording thread works on.
#[derive(Debug)]
enum Order {
    None,
    Asked,
    Recording,
    /// The driver has it, and whoever asked has given up.
    Abandoned,
    Done(Result<Fence, CUresult>),
}

static DESK: Mutex<Order> = Mutex::new(Order::None);
static CHANGED: Condvar = Condvar::new();

/// The recording thread.
fn serve() {
    let mut desk = DESK.lock();
    loop {
        CHANGED.wait_while(&mut desk, |order| !matches!(order, Order::Asked));
        *desk = Order::Recording;
        let result = MutexGuard::unlocked(&mut desk, record);
        if matches!(*desk, Order::Abandoned) {
            // Its events go while the order still stands: no other is taken meanwhile.
            MutexGuard::unlocked(&mut desk, || drop(result));
            *desk = Order::None;
        } else {
            *desk = Order::Done(result);
        }
        CHANGED.notify_all();
    }
}

fn record() -> Result<Fence, CUresult> {
    if contexts::in_doubt() {
        return Err(code::NOT_READY);
    }
    let mut fence = Fence { events: Vec::new(), left: Vec::new() };
    let whole_context = driver::version() >= CTX_RECORD_EVENT;
    for context in contexts::live() {
        let recorded = in_context(context.handle, |api| {
            if whole_context {
                let event = new_event(api)?;
                fence.events.push((context.handle, event as usize));
                // SAFETY: both handles are live; no capture is under way (its first call turned
                // eviction off, and fences are only recorded while it is on or capture-free).
                return done(unsafe { (api.cuCtxRecordEvent)(context.handle as Handle, event) });
            }
            if streams::per_thread_in_use() || streams::overflowed() {
                const WHY: &str = "per-thread default streams on a driver before 12.5";
                crate::stats::page().set_eviction_off(WHY);
                crate::say::once("no-fence", &format!("nothing is evicted: {WHY}"));
                return Err(code::NOT_SUPPORTED);
            }
            fence.left.extend(left_in(context.handle, api));
            let mine = streams::live().into_iter().filter(|s| s.ctx == context.handle);
            for slot in mine.map(|s| s.slot).chain([streams::LEGACY]) {
                let event = new_event(api)?;
                fence.events.push((context.handle, event as usize));
                if slot == streams::LEGACY {
                    // SAFETY: handle 1 names the legacy stream of the current context.
                    done(unsafe { (api.cuEventRecord)(event, 1 as Handle) })?;
                    continue;
                }
                // SAFETY: the registry keeps the stream alive while it is pinned.
                let pinned = streams::with_pinned(slot, |stream| unsafe {
                    (api.cuEventRecord)(event, stream)
                });
                if let Some(result) = pinned {
                    done(result)?;
                }
            }
            Ok(())
        })?;
        recorded?;
    }
    Ok(fence)
}

fn new_event(api: &driver::Api) -> Result<Handle, CUresult> {
    let mut event = std::ptr::null_mut();
    // SAFETY: `event` is a live local.
    done(unsafe { (api.cuEventCreate)(&mut event, DISABLE_TIMING) })?;
    Ok(event)
}

fn done(result: CUresult) -> Result<(), CUresult> {
    if result == code::SUCCESS { Ok(()) } else { Err(result) }
}

impl Fence {
    /// Whether all work has finished; an error of the device counts as an answer.
    pub fn passed(&self) -> Result<bool, CUresult> {
        let api = driver::api().ok_or(code::NOT_INITIALIZED)?;
        let events = self.events.iter().map(|(_, event)| event);
        for &event in events.chain(&self.left) {
            // SAFETY: the events are ours until Drop; some streams of lazy drivers only advance
            // when they are asked.
            match unsafe { (api.cuEventQuery)(event as Handle) } {
                code::SUCCESS => {}
                code::NOT_READY => return Ok(false),
                // An event that was recorded nowhere (its stream had gone) is complete.
                e => return Err(e),
            }
        }
        Ok(true)
    }

    /// Waits up to `patience`; false when that was not enough.
    pub fn wait(&self, patience: Duration) -> Result<bool, CUresult> {
        let deadline = Instant::now() + patience;
        let mut spins = 0u32;
        while !self.passed()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            spins += 1;
            if spins < 50 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(u64::from(spins.min(500))));
            }
        }
        Ok(true)
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let Some(api) = driver::api() else { return };
        // A fence that was given up on is dropped late, by the recording thread.
        let live = self.events.iter().filter(|(ctx, _)| contexts::find(*ctx).is_some());
        for &(_, event) in live {
            // Twice if it must; what is left even then goes with its context.
            for _ in 0..2 {
                // SAFETY: created by `new_event`, destroyed once. Contexts go under the ticket,
                // which the owner of a fence holds.
                if unsafe { (api.cuEventDestroy_v2)(event as Handle) } == code::SUCCESS {
                    break;
                }
            }
        }
    }
}
