//! Every order of a few threads, in the memory model of the language: the protocols of
//! `src/residency/{epoch,state,holders}.rs` and `src/registry/slot.rs`.
//!
//! A cell stands for device memory: loom fails where one thread may read it while another
//! replaces it, or may read it without seeing what was written before. A failure prints how the
//! threads ran; `LOOM_LOG=trace LOOM_LOCATION=1` prints every step of it.

#[path = "../../support/full.rs"]
mod full;

use coldpress_model::{loomed, unfenced};
use full::{Suite, pick};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use serde_json::json;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed;

/// Explores `model` with at most so many preemptions (none: all orders); the orders tried.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) -> u64 {
    static ORDERS: Count = Count::new(0);
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A test that fails on purpose leaves the lock poisoned; it guards nothing but the count.
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    ORDERS.store(0, Relaxed);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        ORDERS.fetch_add(1, Relaxed);
        model();
    });
    ORDERS.load(Relaxed)
}

/// Device memory: the value is what a mapped page would hold.
struct Memory(UnsafeCell<u32>);

// SAFETY: loom checks every access through the cell; that is what the tests are for.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

impl Memory {
    fn new() -> Memory {
        Memory(UnsafeCell::new(1))
    }

    /// Device work reads it.
    fn used(&self) -> u32 {
        // SAFETY: loom fails the test if somebody may write it now.
        self.0.with(|at| unsafe { *at })
    }

    /// The mapping is replaced.
    fn replaced(&self) {
        // SAFETY: loom fails the test if somebody may use it now.
        self.0.with_mut(|at| unsafe { *at += 1 });
    }
}

/// The grace of launch sections, with the epoch module of `$from`: `enterers` threads use the
/// memory inside sections, one replaces it in a stopped world, `stops` times.
macro_rules! grace {
    ($from:ident, $enterers:expr, $stops:expr) => {
        move || {
            use $from::epoch::{Epoch, Flag};
            use $from::sync::{AtomicBool, AtomicU64};
            let world = Arc::new((
                Flag(AtomicBool::new(false)),
                (0..$enterers).map(|_| Epoch(AtomicU64::new(0))).collect::<Vec<_>>(),
                Memory::new(),
            ));
            let enterers: Vec<_> = (0..$enterers)
                .map(|n| {
                    let world = world.clone();
                    thread::spawn(move || {
                        let (stopped, epochs, memory) = &*world;
                        // As `section::enter`, which waits where this one gives up.
                        if epochs[n].try_enter(stopped) {
                            memory.used();
                            epochs[n].leave();
                        }
                    })
                })
                .collect();
            let (stopped, epochs, memory) = &*world;
            for _ in 0..$stops {
                stopped.stop();
                let left = |epoch: &Epoch| {
                    epoch.drained(|| {
                        thread::yield_now();
                        true
                    })
                };
                if epochs.iter().all(left) {
                    memory.replaced();
                }
                stopped.resume();
            }
            enterers.into_iter().for_each(|t| t.join().expect("no panic"));
        }
    };
}

#[test]
fn nobody_is_inside_a_stopped_world() {
    let suite = Suite::begin("loom-grace");
    let one = explore(None, grace!(loomed, 1, 2));
    let two = explore(Some(pick(3, 5)), grace!(loomed, 2, 1));
    suite.end(json!({ "one thread, two stops": one, "two threads, one stop": two }));
}

/// Without the fence between the store and the load, each side may miss the other's store.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_fences_somebody_is() {
    explore(None, grace!(unfenced, 1, 1));
}

/// A stream that is about to be destroyed, and somebody who uses it internally.
macro_rules! destroy {
    ($from:ident) => {
        || {
            use $from::slot::Slot;
            use $from::sync::{AtomicU32, AtomicUsize};
            let slot = Slot {
                handle: AtomicUsize::new(0),
                ctx: AtomicUsize::new(0),
                pins: AtomicU32::new(0),
            };
            slot.give(7, 1);
            let shared = Arc::new((slot, Memory::new()));
            let user = {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (slot, stream) = &*shared;
                    slot.with_pinned(|handle| {
                        // The second stream of the slot has nothing to do with the first.
                        if handle == 7 {
                            stream.used();
                        }
                    });
                })
            };
            let (slot, stream) = &*shared;
            slot.take();
            while slot.in_use() {
                thread::yield_now();
            }
            stream.replaced();
            slot.give(8, 1);
            user.join().expect("no panic");
        }
    };
}

#[test]
fn a_destroy_waits_for_those_who_use_the_stream() {
    let suite = Suite::begin("loom-destroy");
    suite.end(json!({ "orders": explore(None, destroy!(loomed)) }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_fences_it_does_not() {
    explore(None, destroy!(unfenced));
}

use loomed::state::{AtomicWord, Event, State};

fn resident() -> AtomicWord {
    let word = AtomicWord::default();
    word.apply(Event::Create).expect("vacant");
    word
}

/// A pin and the choice as a victim: one of them wins, and a pinned block stays.
#[test]
fn a_pin_and_an_eviction_exclude_each_other() {
    let suite = Suite::begin("loom-pin");
    let orders = explore(pick(Some(3), None), || {
        let shared = Arc::new((resident(), Memory::new()));
        let pinners: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (word, memory) = &*shared;
                    if word.apply(Event::Pin).is_ok() {
                        memory.used();
                        word.apply(Event::Unpin).expect("our pin");
                    }
                })
            })
            .collect();
        let (word, memory) = &*shared;
        if let Ok(mine) = word.apply(Event::BeginEvict) {
            memory.replaced();
            word.apply_in(mine, Event::BeginUnmap).expect("nobody else evicts");
            word.apply(Event::Spill).expect("unmapping");
        }
        pinners.into_iter().for_each(|t| t.join().expect("no panic"));
        assert!(matches!(word.load().state(), State::Resident | State::Spilled));
        assert_eq!(word.load().pins(), 0);
    });
    suite.end(json!({ "orders": orders }));
}

/// An eviction that was cancelled and begun again by somebody else does not take the old copy.
#[test]
fn an_old_copy_is_never_taken() {
    let suite = Suite::begin("loom-generation");
    let orders = explore(None, || {
        let word = Arc::new(resident());
        let old = word.apply(Event::BeginEvict).expect("no pins");
        let other = {
            let word = word.clone();
            thread::spawn(move || {
                word.apply_in(old, Event::CancelEvict).ok()?;
                // Written to in between: the old copy is worthless now.
                word.apply(Event::BeginEvict).ok()
            })
        };
        let unmapped = word.apply_in(old, Event::BeginUnmap).is_ok();
        let again = other.join().expect("no panic");
        assert!(!(unmapped && again.is_some()), "the copy of a cancelled eviction was taken");
        let expected = if unmapped { State::Unmapping } else { State::Evicting };
        assert_eq!(word.load().state(), expected);
    });
    suite.end(json!({ "orders": orders }));
}

/// The short cut of a launch: with nothing evicted, seen from inside the section, whatever its
/// parameters lead to is there, be it named by them or not. The order of its looks is that of
/// `submit::launch`; the order of the evictor is that of `evict::finish`.
#[test]
fn the_short_cut_of_a_launch_sees_every_eviction() {
    use loomed::epoch::{Epoch, Flag};
    use loomed::sync::{AtomicBool, AtomicU64};
    struct World {
        stopped: Flag,
        epoch: Epoch,
        evicted: AtomicU64,
        named: AtomicWord,
        hidden: AtomicWord,
        named_memory: Memory,
        hidden_memory: Memory,
    }
    let suite = Suite::begin("loom-short-cut");
    let orders = explore(Some(pick(3, 6)), || {
        let world = Arc::new(World {
            stopped: Flag(AtomicBool::new(false)),
            epoch: Epoch(AtomicU64::new(0)),
            evicted: AtomicU64::new(0),
            named: resident(),
            hidden: resident(),
            named_memory: Memory::new(),
            hidden_memory: Memory::new(),
        });
        let launcher = {
            let w = world.clone();
            thread::spawn(move || {
                if w.evicted.load(Ordering::Relaxed) != 0 || !w.epoch.try_enter(&w.stopped) {
                    return;
                }
                if w.named.is_resident() && w.evicted.load(Ordering::SeqCst) == 0 {
                    w.named_memory.used();
                    w.hidden_memory.used();
                }
                w.epoch.leave();
            })
        };
        world.stopped.stop();
        world.epoch.drained(|| {
            thread::yield_now();
            true
        });
        for (word, memory) in
            [(&world.hidden, &world.hidden_memory), (&world.named, &world.named_memory)]
        {
            word.apply(Event::BeginEvict).expect("no pins");
            word.apply(Event::BeginUnmap).expect("evicting");
            memory.replaced();
            world.evicted.fetch_add(1, Ordering::SeqCst);
            word.apply(Event::Spill).expect("unmapping");
        }
        world.stopped.resume();
        // Restored while the world runs.
        for (word, memory) in
            [(&world.hidden, &world.hidden_memory), (&world.named, &world.named_memory)]
        {
            word.apply(Event::BeginRestore).expect("spilled");
            memory.replaced();
            world.evicted.fetch_sub(1, Ordering::SeqCst);
            word.apply(Event::FinishRestore).expect("restoring");
        }
        launcher.join().expect("no panic");
    });
    suite.end(json!({ "orders": orders }));
}

/// Who has the ticket and finds all pinned waits for those who hold pins, and for nobody else: it
/// gets the memory, or gives up; it never waits for one that waits for the ticket.
#[test]
fn who_has_the_ticket_waits_only_for_pins() {
    use loomed::holders::Holders;
    use loomed::sync::AtomicU32;
    use std::cell::Cell;
    let suite = Suite::begin("loom-pins");
    let orders = explore(Some(pick(4, 6)), || {
        let shared = Arc::new((Mutex::new(()), Holders(AtomicU32::new(0)), resident()));
        let operation = |(ticket, holders, word): &(Mutex<()>, Holders, AtomicWord)| {
            let mine = Cell::new(false);
            {
                let _ticket = ticket.lock().expect("no panic");
                // As `memory::rescue`: asks who holds pins, then looks for what is not pinned.
                loop {
                    let awaited = holders.others(&mine);
                    if word.load().pins() == 0 {
                        break;
                    }
                    assert!(awaited, "pinned, and nobody will unpin it");
                    thread::yield_now();
                }
                holders.begin(&mine);
                word.apply(Event::Pin).expect("resident");
            }
            // The call is made here, without the ticket.
            word.apply(Event::Unpin).expect("our pin");
            holders.end(&mine);
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || operation(&shared))
        };
        operation(&shared);
        other.join().expect("no panic");
        assert_eq!(shared.1.0.load(Ordering::Relaxed), 0);
    });
    suite.end(json!({ "orders": orders }));
}

/// The counter of loom itself: a test that explores one order only shows nothing.
#[test]
fn more_than_one_order_is_tried() {
    let orders = explore(None, || {
        let n = Arc::new(AtomicU64::new(0));
        let m = n.clone();
        let other = thread::spawn(move || m.fetch_add(1, Ordering::Relaxed));
        n.fetch_add(1, Ordering::Relaxed);
        other.join().expect("no panic");
    });
    assert!(orders > 1);
}
