//! More threads than loom can take, in random orders: the same sources, put together as the engine
//! does. Shuttle's memory is sequentially consistent; what it adds is length.
//!
//! A failure prints a schedule; `shuttle::replay` runs it again.

#[path = "../../support/full.rs"]
mod full;

use coldpress_model::shuttled::epoch::{Epoch, Flag};
use coldpress_model::shuttled::holders::Holders;
use coldpress_model::shuttled::slot::Slot;
use coldpress_model::shuttled::state::{AtomicWord, Event, State};
use coldpress_model::shuttled::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use full::{Suite, pick};
use serde_json::json;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Mutex, MutexGuard};
use shuttle::{Config, FailurePersistence, Runner, thread};
use std::cell::Cell;

/// Runs `model` in random orders and in those of the PCT scheduler; how many.
fn explore(random: usize, pct: usize, model: impl Fn() + Send + Sync + Copy + 'static) -> usize {
    fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) -> usize {
        let mut config = Config::new();
        config.failure_persistence = FailurePersistence::Print;
        Runner::new(scheduler, config).run(model)
    }
    run(RandomScheduler::new(random), model) + run(PctScheduler::new(3, pct), model)
}

const BLOCKS: usize = 4;
const THREADS: usize = 5;
/// Blocks that fit on the device at once: what two operations need.
const ROOM: usize = 3;

/// A small engine: blocks, sections, the ticket, pins. `mapped` stands for device memory.
struct Engine {
    stopped: Flag,
    epochs: Vec<Epoch>,
    blocks: Vec<AtomicWord>,
    mapped: Vec<AtomicBool>,
    evicted: AtomicU64,
    holders: Holders,
    ticket: Mutex<()>,
}

impl Engine {
    fn new() -> Engine {
        let engine = Engine {
            stopped: Flag(AtomicBool::new(false)),
            epochs: (0..THREADS).map(|_| Epoch(AtomicU64::new(0))).collect(),
            blocks: (0..BLOCKS).map(|_| AtomicWord::default()).collect(),
            mapped: (0..BLOCKS).map(|_| AtomicBool::new(true)).collect(),
            evicted: AtomicU64::new(0),
            holders: Holders(AtomicU32::new(0)),
            ticket: Mutex::new(()),
        };
        for block in &engine.blocks {
            block.apply(Event::Create).expect("vacant");
        }
        engine
    }

    fn enter(&self, n: usize) {
        while !self.epochs[n].try_enter(&self.stopped) {
            thread::yield_now();
        }
    }

    /// The call itself: inside a section, on memory that must be there all the time.
    fn call(&self, operands: [usize; 2]) {
        for block in operands {
            assert!(self.mapped[block].load(Ordering::SeqCst), "used while it was away");
            thread::yield_now();
            assert!(self.mapped[block].load(Ordering::SeqCst), "taken away under a use");
        }
    }

    fn stop(&self) {
        self.stopped.stop();
        let wait = || {
            thread::yield_now();
            true
        };
        self.epochs.iter().for_each(|epoch| assert!(epoch.drained(wait)));
    }

    /// Evicts one block that nobody has pinned.
    fn evict(&self, _ticket: &MutexGuard<'_, ()>) -> bool {
        self.stop();
        let victim = self.blocks.iter().position(|b| b.apply(Event::BeginEvict).is_ok());
        if let Some(id) = victim {
            let word = &self.blocks[id];
            word.apply(Event::BeginUnmap).expect("evicting");
            self.mapped[id].store(false, Ordering::SeqCst);
            self.evicted.fetch_add(1, Ordering::SeqCst);
            word.apply(Event::Spill).expect("unmapping");
        }
        self.stopped.resume();
        victim.is_some()
    }

    fn restore(&self, id: usize, mine: &Cell<bool>, ticket: &MutexGuard<'_, ()>) {
        self.blocks[id].apply(Event::BeginRestore).expect("away");
        loop {
            let awaited = self.holders.others(mine);
            let there = self.mapped.iter().filter(|m| m.load(Ordering::SeqCst)).count();
            if there < ROOM || self.evict(ticket) {
                break;
            }
            // Two operations fit, so what is missing is held by others, who let go.
            assert!(awaited, "nothing to evict, and nobody to wait for");
            thread::yield_now();
        }
        self.mapped[id].store(true, Ordering::SeqCst);
        self.evicted.fetch_sub(1, Ordering::SeqCst);
        self.blocks[id].apply(Event::FinishRestore).expect("restoring");
    }

    /// An operation, as `submit` makes it.
    fn operation(&self, n: usize, operands: [usize; 2]) {
        if self.evicted.load(Ordering::Relaxed) == 0 || n.is_multiple_of(2) {
            self.enter(n);
            let resident = operands.iter().all(|&b| self.blocks[b].is_resident());
            if resident {
                self.call(operands);
            }
            self.epochs[n].leave();
            if resident {
                return;
            }
        }
        let mine = Cell::new(false);
        let mut pins = Vec::new();
        {
            let ticket = self.ticket.lock().expect("no panic");
            let mut away = operands.to_vec();
            away.retain(|&id| {
                self.holders.begin(&mine);
                let pinned = self.blocks[id].apply(Event::Pin).is_ok();
                pins.extend(pinned.then_some(id));
                !pinned
            });
            for id in away {
                self.restore(id, &mine, &ticket);
                self.blocks[id].apply(Event::Pin).expect("just restored");
                pins.push(id);
            }
        }
        self.enter(n);
        self.call(operands);
        self.epochs[n].leave();
        for id in pins {
            self.blocks[id].apply(Event::Unpin).expect("our pin");
        }
        self.holders.end(&mine);
    }
}

/// Launches, an evictor and the ticket, all at once: nothing is used while it is away, and
/// everybody gets done.
fn engine() {
    let engine = Arc::new(Engine::new());
    // The device never held more than fits.
    for _ in ROOM..BLOCKS {
        assert!(engine.evict(&engine.ticket.lock().expect("no panic")));
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let engine = engine.clone();
            thread::spawn(move || {
                if n == 0 {
                    // The background: one eviction, as `mode:active` and `coldpress_evict` do.
                    engine.evict(&engine.ticket.lock().expect("no panic"));
                    return;
                }
                for step in 0..2 {
                    engine.operation(n, [(n + step) % BLOCKS, (n + 2 * step + 1) % BLOCKS]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    let away = engine.blocks.iter().filter(|b| b.load().state() == State::Spilled).count();
    assert_eq!(engine.evicted.load(Ordering::SeqCst), away as u64);
    assert_eq!(engine.holders.0.load(Ordering::SeqCst), 0);
    assert!(engine.blocks.iter().all(|b| b.load().pins() == 0));
}

/// Streams of one slot come and go while others use them internally.
fn streams() {
    let slot =
        Slot { handle: AtomicUsize::new(0), ctx: AtomicUsize::new(0), pins: AtomicU32::new(0) };
    let alive: Vec<_> = (0..3).map(|_| AtomicBool::new(false)).collect();
    let shared = Arc::new((slot, alive));
    let users: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let (slot, alive) = &*shared;
                slot.with_pinned(|handle| {
                    assert!(alive[handle - 1].load(Ordering::SeqCst), "destroyed before its use");
                    thread::yield_now();
                    assert!(alive[handle - 1].load(Ordering::SeqCst), "destroyed under a use");
                });
            })
        })
        .collect();
    let (slot, alive) = &*shared;
    for handle in 1..=alive.len() {
        alive[handle - 1].store(true, Ordering::SeqCst);
        slot.give(handle, 1);
        thread::yield_now();
        slot.take();
        while slot.in_use() {
            thread::yield_now();
        }
        alive[handle - 1].store(false, Ordering::SeqCst);
    }
    users.into_iter().for_each(|t| t.join().expect("no panic"));
}

#[test]
fn five_threads_on_a_small_engine() {
    let suite = Suite::begin("schedules");
    let (random, pct) = pick((3_000, 1_500), (60_000, 30_000));
    let engines = explore(random, pct, engine);
    let slots = explore(random, pct, streams);
    suite.end(json!({ "threads": THREADS, "engine": engines, "streams": slots,
        "random": random, "pct": pct }));
}
