//! When queued work runs, and who waits for it.
//!
//! Work is a graph: an item runs after everything it depends on. Streams, the legacy stream's
//! rule and events only decide what an item depends on (`stream.rs`); this file runs items in one
//! of five modes. No lock is held while an item runs or while somebody waits.

use crate::settings::{self, Mode};
use crate::work::Work;
use crate::{clock, context};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

const PENDING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;

/// One queued piece of work.
#[derive(Debug)]
pub struct Item {
    stream: usize,
    state: AtomicU8,
    after: Mutex<Vec<Arc<Item>>>,
    work: Mutex<Option<Work>>,
    ctx: Arc<context::Context>,
    delay_us: u64,
    finished: AtomicU64,
    asked: AtomicU32,
}

/// Wakes whoever waits for any item.
static FINISHED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

impl Item {
    /// An item that runs `work` after all of `after`.
    pub fn new(
        ctx: Arc<context::Context>,
        stream: usize,
        work: Option<Work>,
        after: Vec<Arc<Item>>,
        delay_us: u64,
    ) -> Arc<Item> {
        Arc::new(Item {
            stream,
            state: AtomicU8::new(PENDING),
            after: Mutex::new(after.into_iter().filter(|i| !i.is_done()).collect()),
            work: Mutex::new(work),
            ctx,
            delay_us,
            finished: AtomicU64::new(0),
            asked: AtomicU32::new(0),
        })
    }

    /// Whether it has run.
    pub fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// When it had run, in nanoseconds of the clock.
    pub fn finished_ns(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    fn missing(&self) -> Option<Arc<Item>> {
        self.after.lock().iter().find(|i| !i.is_done()).cloned()
    }

    /// Runs it unless somebody else does; what it depends on has run.
    fn run(&self) {
        let claim =
            self.state.compare_exchange(PENDING, RUNNING, Ordering::AcqRel, Ordering::Acquire);
        if claim.is_err() {
            return;
        }
        let work = self.work.lock().take();
        if self.delay_us > 0 {
            std::thread::sleep(std::time::Duration::from_micros(self.delay_us));
        }
        if let Some(work) = work {
            if let Mode::Clocked(bytes, kernel) = settings::get().mode {
                std::thread::sleep(std::time::Duration::from_micros(
                    work.duration_us(bytes, kernel),
                ));
            }
            work.run(&self.ctx, self.stream);
        }
        self.after.lock().clear();
        self.finished.store(clock::now_ns(), Ordering::Release);
        self.state.store(DONE, Ordering::Release);
        drop(FINISHED.0.lock());
        FINISHED.1.notify_all();
        if matches!(settings::get().mode, Mode::Random(_)) {
            // Under the picker's lock: it has seen this item done, or it waits already.
            drop(PICKER.0.lock());
            PICKER.1.notify_all();
        }
    }
}

/// Runs an item and everything before it on this thread (eager and lazy).
fn drive(item: &Arc<Item>) {
    let mut stack = vec![item.clone()];
    while let Some(top) = stack.last().cloned() {
        if top.is_done() {
            stack.pop();
        } else if let Some(before) = top.missing() {
            stack.push(before);
        } else {
            top.run();
            if !top.is_done() {
                // Another thread runs it.
                block_until(&top);
            }
        }
    }
}

fn block_until(item: &Item) {
    let mut guard = FINISHED.0.lock();
    while !item.is_done() {
        FINISHED.1.wait(&mut guard);
    }
}

/// Waits for an item.
pub fn wait(item: &Arc<Item>) {
    if item.is_done() {
        return;
    }
    match settings::get().mode {
        Mode::Eager | Mode::Lazy(_) => drive(item),
        _ => block_until(item),
    }
}

/// Asks whether an item has run; in lazy mode asking often enough makes it run.
pub fn query(item: &Arc<Item>) -> bool {
    if let Mode::Lazy(k) = settings::get().mode
        && !item.is_done()
        && item.asked.fetch_add(1, Ordering::AcqRel) + 1 >= k
    {
        drive(item);
    }
    item.is_done()
}

/// The queue of one stream's worker.
#[derive(Debug, Default)]
pub struct Queue {
    items: Mutex<(VecDeque<Arc<Item>>, bool)>,
    more: Condvar,
}

/// All items of random mode that have not run.
static PICKER: (Mutex<Vec<Arc<Item>>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

/// In eager mode runs an item that was just queued.
pub fn start(item: &Arc<Item>) {
    if settings::get().mode == Mode::Eager {
        drive(item);
    }
}

/// Hands an item over to whatever runs it. `queue` is the stream's; the caller keeps others from
/// queueing to it, so that the queue has the items in the order of what they wait for.
pub fn enqueue(item: &Arc<Item>, queue: &Arc<Queue>) {
    match settings::get().mode {
        Mode::Eager | Mode::Lazy(_) => {}
        Mode::Async | Mode::Clocked(..) => queue.push(item.clone()),
        Mode::Random(seed) => {
            static START: std::sync::Once = std::sync::Once::new();
            START.call_once(|| {
                let picker = std::thread::Builder::new().name("simcuda-picker".into());
                if picker.spawn(move || pick(seed)).is_err() {
                    eprintln!("simcuda: no thread");
                }
            });
            PICKER.0.lock().push(item.clone());
            PICKER.1.notify_all();
        }
    }
}

/// Random mode: any ready item may be next.
fn pick(seed: u64) {
    let mut state = seed | 1;
    loop {
        let next = {
            let mut items = PICKER.0.lock();
            loop {
                items.retain(|i| !i.is_done());
                let ready: Vec<usize> =
                    (0..items.len()).filter(|&i| items[i].missing().is_none()).collect();
                if ready.is_empty() {
                    PICKER.1.wait_for(&mut items, std::time::Duration::from_millis(50));
                    continue;
                }
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                break items.swap_remove(ready[(state % ready.len() as u64) as usize]);
            }
        };
        if state.is_multiple_of(7) {
            std::thread::sleep(std::time::Duration::from_micros(state >> 32 & 255));
        }
        next.run();
    }
}

impl Queue {
    fn push(self: &Arc<Self>, item: Arc<Item>) {
        let mut items = self.items.lock();
        items.0.push_back(item);
        if !items.1 {
            items.1 = true;
            let queue = self.clone();
            let worker = std::thread::Builder::new().name("simcuda-stream".into());
            if worker.spawn(move || queue.work()).is_err() {
                eprintln!("simcuda: no thread for a stream");
            }
        }
        self.more.notify_one();
    }

    /// A worker lives while there is work and a little longer.
    fn work(&self) {
        loop {
            let next = {
                let mut items = self.items.lock();
                loop {
                    if let Some(item) = items.0.pop_front() {
                        break item;
                    }
                    let patience = std::time::Duration::from_millis(200);
                    if self.more.wait_for(&mut items, patience).timed_out() && items.0.is_empty() {
                        items.1 = false;
                        return;
                    }
                }
            };
            while let Some(before) = next.missing() {
                block_until(&before);
            }
            next.run();
        }
    }
}
