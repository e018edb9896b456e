//! Streams and events: what each item of work has to wait for.
//!
//! The rules: a stream runs its items in order. An item of the legacy stream waits for every
//! blocking stream of its context, and every later item of a blocking stream waits for it. A
//! per-thread default stream is a blocking stream. Waiting on an event means waiting for what it
//! stood for at the call.

use crate::abi::{CUresult, Handle, Outcome, code};
use crate::context::{self, Context};
use crate::handles::Id;
use crate::schedule::{self, Item, Queue};
use crate::work::Work;
use crate::{entry, settings};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The handles that name default streams.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    handle: Id,
    ctx: Weak<Context>,
    pub ctx_handle: usize,
    pub blocking: bool,
    pub priority: i32,
    pub id: u64,
    legacy: bool,
    delay_us: u64,
    queue: Arc<Queue>,
    last: Mutex<Option<Arc<Item>>>,
    /// What is queued and has not run, oldest first; kept only where a queue has an end.
    backlog: Mutex<VecDeque<Arc<Item>>>,
    pub attributes: Mutex<HashMap<i32, Attribute>>,
}

/// The value of an attribute: a union.
pub type Attribute = [u8; 64];

static LIVE: Mutex<Option<HashMap<usize, Arc<Stream>>>> = Mutex::new(None);
static CREATED: AtomicUsize = AtomicUsize::new(0);
static IDS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// This thread's default streams by context.
    static OWN: Own = Own::default();
}

#[derive(Default)]
struct Own(RefCell<HashMap<usize, Arc<Stream>>>);

impl Drop for Own {
    /// They end with the thread; what is queued in them still runs.
    fn drop(&mut self) {
        self.0.get_mut().values().for_each(retire);
    }
}

impl Stream {
    /// The legacy stream of a context, and the base of all others.
    pub fn new(ctx: &Arc<Context>, legacy: bool, priority: i32) -> Arc<Stream> {
        Stream::build(ctx, legacy, true, priority, 0)
    }

    fn build(
        ctx: &Arc<Context>,
        legacy: bool,
        blocking: bool,
        priority: i32,
        delay_us: u64,
    ) -> Arc<Stream> {
        Arc::new(Stream {
            handle: Id::new(),
            ctx: Arc::downgrade(ctx),
            ctx_handle: ctx.handle() as usize,
            blocking,
            priority,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            legacy,
            delay_us,
            queue: Arc::default(),
            last: Mutex::new(None),
            backlog: Mutex::default(),
            attributes: Mutex::default(),
        })
    }

    /// Its handle.
    pub fn handle(&self) -> Handle {
        self.handle.get() as Handle
    }

    /// What a report calls it: its handle, or the name of the legacy stream.
    fn name(&self) -> usize {
        if self.legacy { LEGACY } else { self.handle.get() }
    }

    /// The last item queued, if it has not run.
    pub fn last(&self) -> Option<Arc<Item>> {
        self.last.lock().clone().filter(|i| !i.is_done())
    }

    /// Its context.
    pub fn context(&self) -> Outcome<Arc<Context>> {
        self.ctx.upgrade().ok_or(code::CONTEXT_IS_DESTROYED)
    }

    /// Queues work behind everything it must wait for.
    pub fn submit(&self, work: Option<Work>) -> Outcome<Arc<Item>> {
        self.submit_after(work, Vec::new())
    }

    /// Queues work behind everything it must wait for and behind `after`.
    pub fn submit_after(
        &self,
        work: Option<Work>,
        mut after: Vec<Arc<Item>>,
    ) -> Outcome<Arc<Item>> {
        let ctx = self.context()?;
        self.wait_for_room();
        let item = {
            // One lock for the order of the whole context: two streams cannot see each other's
            // items in different orders.
            let mut order = ctx.order.lock();
            after.extend(self.last());
            if self.legacy {
                let blocking = order.streams.iter().filter(|s| s.blocking);
                after.extend(blocking.filter_map(|s| s.last()));
                order.leftovers.retain(|(_, i)| !i.is_done());
                let blocking = order.leftovers.iter().filter(|(blocking, _)| *blocking);
                after.extend(blocking.map(|(_, i)| i.clone()));
            } else if self.blocking {
                after.extend(order.legacy.clone());
            }
            let item = Item::new(ctx.clone(), self.name(), work, after, self.delay_us);
            *self.last.lock() = Some(item.clone());
            if settings::get().queue.is_some() {
                self.backlog.lock().push_back(item.clone());
            }
            if self.legacy {
                order.legacy = Some(item.clone());
            }
            // Under the lock: a worker that found a later item first would wait for ever.
            schedule::enqueue(&item, &self.queue);
            item
        };
        schedule::start(&item);
        Ok(item)
    }

    /// Blocks while the queue is full, as a driver does.
    pub fn wait_for_room(&self) {
        let Some(most) = settings::get().queue else { return };
        loop {
            let oldest = {
                let mut backlog = self.backlog.lock();
                backlog.retain(|i| !i.is_done());
                if backlog.len() < most {
                    return;
                }
                backlog.front().cloned()
            };
            oldest.iter().for_each(schedule::wait);
        }
    }

    /// Everything queued up to now, the legacy stream's rule included.
    pub fn pending(&self) -> Vec<Arc<Item>> {
        let mut all: Vec<Arc<Item>> = self.last().into_iter().collect();
        if self.legacy
            && let Ok(ctx) = self.context()
        {
            let order = ctx.order.lock();
            all.extend(order.streams.iter().filter(|s| s.blocking).filter_map(|s| s.last()));
            let blocking = order.leftovers.iter().filter(|(blocking, _)| *blocking);
            all.extend(blocking.map(|(_, i)| i.clone()));
        }
        all
    }
}

/// Creates a stream in the current context.
pub fn create(flags: u32, priority: i32) -> Outcome<Handle> {
    if flags > 1 {
        return Err(code::INVALID_VALUE);
    }
    let ctx = context::current()?;
    let n = CREATED.fetch_add(1, Ordering::Relaxed);
    let delay = settings::get().delay.iter().find(|(i, _)| *i == n).map_or(0, |(_, us)| *us);
    let stream = Stream::build(&ctx, false, flags & 1 == 0, priority.clamp(-5, 0), delay);
    ctx.order.lock().streams.push(stream.clone());
    let handle = stream.handle();
    LIVE.lock().get_or_insert_default().insert(handle as usize, stream);
    Ok(handle)
}

/// Destroys a stream; what it has queued still runs.
pub fn destroy(handle: Handle) -> Outcome {
    let stream = LIVE.lock().as_mut().and_then(|l| l.remove(&(handle as usize)));
    let stream = stream.ok_or(code::INVALID_HANDLE)?;
    retire(&stream);
    Ok(())
}

/// Takes a stream out of its context's order, but not what it has queued.
fn retire(stream: &Arc<Stream>) {
    if let Ok(ctx) = stream.context() {
        let mut order = ctx.order.lock();
        order.streams.retain(|s| !Arc::ptr_eq(s, stream));
        order.leftovers.retain(|(_, i)| !i.is_done());
        order.leftovers.extend(stream.last().map(|i| (stream.blocking, i)));
    }
}

/// Streams that were created and not destroyed.
pub fn live() -> usize {
    LIVE.lock().as_ref().map_or(0, HashMap::len)
}

/// A context ends with its streams.
pub fn context_gone(ctx: usize) {
    if let Some(live) = LIVE.lock().as_mut() {
        live.retain(|_, s| s.ctx_handle != ctx);
    }
    if let Some(events) = EVENTS.lock().as_mut() {
        events.retain(|_, e| e.ctx != ctx);
    }
}

/// The stream an argument means, in the current context where it is a default stream.
pub fn find(handle: Handle) -> Outcome<Arc<Stream>> {
    let own = match handle as usize {
        0 => entry::per_thread(),
        LEGACY => false,
        PER_THREAD => true,
        other => {
            crate::sim::ready()?;
            let stream = LIVE.lock().as_ref().and_then(|l| l.get(&other)).cloned();
            let stream = stream.ok_or(code::INVALID_HANDLE)?;
            return match stream.context()?.sticky() {
                0 => Ok(stream),
                e => Err(e),
            };
        }
    };
    let ctx = context::current()?;
    if !own {
        return ctx.legacy();
    }
    let find_own = |own: &Own| {
        let mut streams = own.0.borrow_mut();
        let key = ctx.handle() as usize;
        // A context at the same address is another one: its streams have another parent.
        if streams.get(&key).is_some_and(|s| s.context().is_err()) {
            streams.remove(&key);
        }
        streams
            .entry(key)
            .or_insert_with(|| {
                let stream = Stream::build(&ctx, false, true, 0, 0);
                ctx.order.lock().streams.push(stream.clone());
                stream
            })
            .clone()
    };
    // While a thread ends it has no default stream of its own any more.
    OWN.try_with(find_own).map_err(|_| code::INVALID_HANDLE)
}

/// An event: what it was recorded behind.
#[derive(Debug)]
pub struct Event {
    handle: Id,
    ctx: usize,
    timing: bool,
    recorded: Mutex<Vec<Arc<Item>>>,
    ever: std::sync::atomic::AtomicBool,
}

static EVENTS: Mutex<Option<HashMap<usize, Arc<Event>>>> = Mutex::new(None);

/// Creates an event in the current context.
pub fn create_event(flags: u32) -> Outcome<Handle> {
    if flags & !7 != 0 {
        return Err(code::INVALID_VALUE);
    }
    let ctx = context::current()?;
    let event = Arc::new(Event {
        handle: Id::new(),
        ctx: ctx.handle() as usize,
        timing: flags & 2 == 0,
        recorded: Mutex::new(Vec::new()),
        ever: false.into(),
    });
    let handle = event.handle.get() as Handle;
    EVENTS.lock().get_or_insert_default().insert(handle as usize, event);
    Ok(handle)
}

/// The live event with this handle.
pub fn event(handle: Handle) -> Outcome<Arc<Event>> {
    crate::sim::ready()?;
    let events = EVENTS.lock();
    events.as_ref().and_then(|e| e.get(&(handle as usize))).cloned().ok_or(code::INVALID_HANDLE)
}

/// Destroys an event; waits that were queued on it stay.
pub fn destroy_event(handle: Handle) -> Outcome {
    let gone = EVENTS.lock().as_mut().and_then(|e| e.remove(&(handle as usize)));
    gone.map(drop).ok_or(code::INVALID_HANDLE)
}

/// Events that were created and not destroyed.
pub fn live_events() -> usize {
    EVENTS.lock().as_ref().map_or(0, HashMap::len)
}

impl Event {
    /// Stands for everything in the stream up to now.
    pub fn record(&self, stream: &Stream) -> Outcome {
        if stream.ctx_handle != self.ctx {
            return Err(code::INVALID_HANDLE);
        }
        let item = stream.submit(None)?;
        self.set(vec![item]);
        Ok(())
    }

    /// Stands for these items.
    pub fn set(&self, items: Vec<Arc<Item>>) {
        *self.recorded.lock() = items;
        self.ever.store(true, Ordering::Release);
    }

    /// What it stands for now.
    pub fn items(&self) -> Vec<Arc<Item>> {
        self.recorded.lock().clone()
    }

    fn context_error(&self) -> CUresult {
        context::find(self.ctx as Handle).map_or(0, |c| c.sticky())
    }

    /// Whether all of it has run.
    pub fn query(&self) -> Outcome {
        let done = self.items().iter().map(schedule::query).fold(true, |all, one| all & one);
        match self.context_error() {
            0 if done => Ok(()),
            0 => Err(code::NOT_READY),
            e => Err(e),
        }
    }

    /// Waits for all of it.
    pub fn synchronize(&self) -> Outcome {
        self.items().iter().for_each(schedule::wait);
        match self.context_error() {
            0 => Ok(()),
            e => Err(e),
        }
    }

    /// Milliseconds from `start` to this event.
    pub fn since(&self, start: &Event) -> Outcome<f32> {
        if !(self.timing && start.timing) {
            return Err(code::INVALID_HANDLE);
        }
        if !self.ever.load(Ordering::Acquire) || !start.ever.load(Ordering::Acquire) {
            return Err(code::INVALID_HANDLE);
        }
        let end = |e: &Event| {
            let items = e.items();
            if !items.iter().all(|i| i.is_done()) {
                return Err(code::NOT_READY);
            }
            Ok(items.iter().map(|i| i.finished_ns()).max().unwrap_or(0))
        };
        Ok((end(self)? as f64 - end(start)? as f64) as f32 / 1e6)
    }
}
