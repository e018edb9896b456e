//! The residency state machine of one block, as pure data.
//!
//! Owns: which transitions exist. Never: touches memory, drivers or locks. A block's state lives
//! in one 64-bit word (state, pin count, generation) that is only ever changed by compare and
//! exchange of the whole word, so a cancelled and restarted eviction cannot succeed on an old
//! copy: `BeginEvict` and `Reuse` start a new generation.
#![forbid(unsafe_code)]

use super::sync::{AtomicU64, Ordering};
use std::fmt;

/// Where the bytes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Mapped; the device may use it. Zero, so that a launch can gather the states of all its
    /// operands with one `or` each.
    Resident = 0,
    /// No block: the slot is free.
    Vacant = 1,
    /// Chosen as a victim; still mapped and valid, no new use may start.
    Evicting = 2,
    /// Its copy is complete and checked; the mapping is being removed.
    Unmapping = 3,
    /// Away; bytes in the device store, some maybe in place.
    Compressed = 4,
    /// Away; bytes in the host tier.
    Spilled = 5,
    /// Being mapped and filled again.
    Restoring = 6,
    /// Freed by the program; mapped until every stream that used it has passed.
    Limbo = 7,
    /// A restore could not prove its bytes; every use is an error until it is freed.
    Poisoned = 8,
}

impl State {
    /// All states, for exhaustive tests.
    pub const ALL: [State; 9] = [
        State::Resident,
        State::Vacant,
        State::Evicting,
        State::Unmapping,
        State::Compressed,
        State::Spilled,
        State::Restoring,
        State::Limbo,
        State::Poisoned,
    ];

    fn from_bits(bits: u64) -> State {
        State::ALL.get(bits as usize).copied().unwrap_or(State::Vacant)
    }

    /// True where physical memory backs the block.
    pub fn is_mapped(self) -> bool {
        matches!(self, State::Resident | State::Evicting | State::Unmapping | State::Limbo)
    }

    /// True where the bytes are kept away from the device.
    pub fn is_evicted(self) -> bool {
        matches!(self, State::Compressed | State::Spilled)
    }
}

/// What can happen to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A vacant slot becomes an allocation's block.
    Create,
    /// One more reason to stay resident.
    Pin,
    /// One reason less.
    Unpin,
    /// Chosen as a victim.
    BeginEvict,
    /// The victim stays: it was needed, hit by a scan, or its copy failed.
    CancelEvict,
    /// The copy is complete and checked.
    BeginUnmap,
    /// The mapping is gone, the bytes are in the device store.
    Compress,
    /// The mapping is gone, the bytes are in the host tier; or they have moved there.
    Spill,
    /// Somebody needs it.
    BeginRestore,
    /// Mapped, filled and checked.
    FinishRestore,
    /// No memory for it now: back to the host tier, nothing lost.
    AbandonRestore,
    /// Its bytes could not be proved.
    Poison,
    /// The program freed it.
    Free,
    /// A freed, still mapped block becomes a new allocation.
    Reuse,
    /// A freed block's mapping is gone: the slot is free.
    Retire,
}

impl Event {
    /// All events, for exhaustive tests.
    pub const ALL: [Event; 15] = [
        Event::Create,
        Event::Pin,
        Event::Unpin,
        Event::BeginEvict,
        Event::CancelEvict,
        Event::BeginUnmap,
        Event::Compress,
        Event::Spill,
        Event::BeginRestore,
        Event::FinishRestore,
        Event::AbandonRestore,
        Event::Poison,
        Event::Free,
        Event::Reuse,
        Event::Retire,
    ];
}

const STATE_BITS: u32 = 4;
const PIN_BITS: u32 = 20;
const PIN_MAX: u64 = (1 << PIN_BITS) - 1;
const GEN_SHIFT: u32 = STATE_BITS + PIN_BITS;

/// State, pin count and generation in one value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

/// A transition that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The word it was tried on.
    pub word: Word,
    /// What was tried.
    pub event: Event,
}

impl Word {
    /// A vacant slot of generation 0.
    pub const VACANT: Word = Word(State::Vacant as u64);

    /// Builds a word; the generation wraps at 40 bits.
    pub fn new(state: State, pins: u32, generation: u64) -> Word {
        Word(state as u64 | (u64::from(pins) & PIN_MAX) << STATE_BITS | generation << GEN_SHIFT)
    }

    /// The state.
    pub fn state(self) -> State {
        State::from_bits(self.0 & ((1 << STATE_BITS) - 1))
    }

    /// How many holders keep it resident.
    pub fn pins(self) -> u32 {
        (self.0 >> STATE_BITS & PIN_MAX) as u32
    }

    /// The generation, raised by every eviction attempt and every reuse.
    pub fn generation(self) -> u64 {
        self.0 >> GEN_SHIFT
    }

    /// The word after `event`, or why there is none.
    pub fn step(self, event: Event) -> Result<Word, Illegal> {
        use State::*;
        let (state, pins, generation) = (self.state(), self.pins(), self.generation());
        let next = match (state, event) {
            (Vacant, Event::Create) => Word::new(Resident, 0, generation + 1),
            (Resident, Event::Pin) if u64::from(pins) < PIN_MAX => {
                Word::new(Resident, pins + 1, generation)
            }
            (Resident, Event::Unpin) if pins > 0 => Word::new(Resident, pins - 1, generation),
            // A pin may outlive the allocation it was taken on by a moment.
            (Limbo, Event::Unpin) if pins > 0 => Word::new(Limbo, pins - 1, generation),
            (Resident, Event::BeginEvict) if pins == 0 => Word::new(Evicting, 0, generation + 1),
            (Evicting, Event::CancelEvict) => Word::new(Resident, 0, generation),
            (Evicting, Event::BeginUnmap) => Word::new(Unmapping, 0, generation),
            (Unmapping, Event::Compress) => Word::new(Compressed, 0, generation),
            (Unmapping | Compressed, Event::Spill) => Word::new(Spilled, 0, generation),
            (Compressed | Spilled, Event::BeginRestore) => Word::new(Restoring, 0, generation),
            (Restoring, Event::FinishRestore) => Word::new(Resident, 0, generation),
            (Restoring, Event::AbandonRestore) => Word::new(Spilled, 0, generation),
            (Restoring, Event::Poison) => Word::new(Poisoned, 0, generation),
            (Resident, Event::Free) => Word::new(Limbo, pins, generation),
            (Compressed | Spilled | Poisoned, Event::Free) => Word::new(Limbo, 0, generation),
            (Limbo, Event::Reuse) if pins == 0 => Word::new(Resident, 0, generation + 1),
            (Limbo, Event::Retire) if pins == 0 => Word::new(Vacant, 0, generation),
            _ => return Err(Illegal { word: self, event }),
        };
        Ok(next)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(pins {}, generation {})", self.state(), self.pins(), self.generation())
    }
}

/// A [`Word`] that threads share.
#[derive(Debug)]
pub struct AtomicWord(AtomicU64);

impl Default for AtomicWord {
    fn default() -> AtomicWord {
        AtomicWord(AtomicU64::new(Word::VACANT.0))
    }
}

/// Gathers whether all of several blocks are resident.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathered(u64);

impl Gathered {
    /// Adds a block.
    #[inline(always)]
    pub fn add(&mut self, word: &AtomicWord) {
        self.0 |= word.0.load(Ordering::Acquire);
    }

    /// True if all that were added were resident.
    #[inline(always)]
    pub fn all_resident(self) -> bool {
        const { assert!(State::Resident as u64 == 0) };
        self.0 & ((1 << STATE_BITS) - 1) == 0
    }
}

impl AtomicWord {
    /// The current word.
    #[inline]
    pub fn load(&self) -> Word {
        Word(self.0.load(Ordering::SeqCst))
    }

    /// True where the device may use the block: one load, one compare.
    #[inline]
    pub fn is_resident(&self) -> bool {
        self.0.load(Ordering::Acquire) & ((1 << STATE_BITS) - 1) == State::Resident as u64
    }

    /// Applies `event` to whatever the word is now; retries on races with pins.
    pub fn apply(&self, event: Event) -> Result<Word, Illegal> {
        let mut now = self.load();
        loop {
            let next = now.step(event)?;
            match self.0.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(next),
                Err(seen) => now = Word(seen),
            }
        }
    }

    /// Applies `event` only in this state.
    pub fn apply_if(&self, state: State, event: Event) -> Result<Word, Illegal> {
        let mut now = self.load();
        loop {
            if now.state() != state {
                return Err(Illegal { word: now, event });
            }
            let next = now.step(event)?;
            match self.0.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(next),
                Err(seen) => now = Word(seen),
            }
        }
    }

    /// Applies `event` only while nobody holds a pin.
    pub fn apply_unpinned(&self, event: Event) -> Result<Word, Illegal> {
        let mut now = self.load();
        loop {
            if now.pins() > 0 {
                return Err(Illegal { word: now, event });
            }
            let next = now.step(event)?;
            match self.0.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(next),
                Err(seen) => now = Word(seen),
            }
        }
    }

    /// Applies `event` only if the word still has the generation of `expected`.
    pub fn apply_in(&self, expected: Word, event: Event) -> Result<Word, Illegal> {
        let mut now = self.load();
        loop {
            if now.generation() != expected.generation() {
                return Err(Illegal { word: now, event });
            }
            let next = now.step(event)?;
            match self.0.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(next),
                Err(seen) => now = Word(seen),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole table, written out once more by hand: what each event does to each state.
    fn expected(state: State, event: Event) -> Option<State> {
        use Event as E;
        use State as S;
        Some(match (state, event) {
            (S::Vacant, E::Create) => S::Resident,
            (S::Resident, E::Pin) => S::Resident,
            (S::Resident, E::BeginEvict) => S::Evicting,
            (S::Resident, E::Free) => S::Limbo,
            (S::Evicting, E::CancelEvict) => S::Resident,
            (S::Evicting, E::BeginUnmap) => S::Unmapping,
            (S::Unmapping, E::Compress) => S::Compressed,
            (S::Unmapping | S::Compressed, E::Spill) => S::Spilled,
            (S::Compressed | S::Spilled, E::BeginRestore) => S::Restoring,
            (S::Compressed | S::Spilled | S::Poisoned, E::Free) => S::Limbo,
            (S::Restoring, E::FinishRestore) => S::Resident,
            (S::Restoring, E::AbandonRestore) => S::Spilled,
            (S::Restoring, E::Poison) => S::Poisoned,
            (S::Limbo, E::Reuse) => S::Resident,
            (S::Limbo, E::Retire) => S::Vacant,
            _ => return None,
        })
    }

    #[test]
    fn every_state_and_event_is_decided() {
        for state in State::ALL {
            for event in Event::ALL {
                let got = Word::new(state, 0, 7).step(event).ok().map(Word::state);
                assert_eq!(got, expected(state, event), "{state:?} on {event:?}");
            }
        }
    }

    #[test]
    fn a_pinned_block_is_never_a_victim() {
        let pinned = Word::new(State::Resident, 1, 3);
        assert!(pinned.step(Event::BeginEvict).is_err());
        let free = pinned.step(Event::Unpin).expect("one pin to drop");
        assert_eq!(free.step(Event::BeginEvict).expect("no pins").state(), State::Evicting);
    }

    #[test]
    fn pins_are_counted_and_outlive_a_free() {
        let word = |state, pins| Word::new(state, pins, 3);
        let pinned = word(State::Resident, 1).step(Event::Pin).expect("any number");
        assert_eq!(pinned, word(State::Resident, 2));
        assert_eq!(pinned.step(Event::Unpin), Ok(word(State::Resident, 1)));
        let freed = pinned.step(Event::Free).expect("whoever has pinned it");
        assert_eq!(freed, word(State::Limbo, 2), "they let go of it later");
        for event in [Event::Reuse, Event::Retire] {
            assert!(freed.step(event).is_err(), "{event:?} under a pin");
        }
        assert_eq!(freed.step(Event::Unpin), Ok(word(State::Limbo, 1)));
        for state in [State::Resident, State::Limbo] {
            assert!(word(state, 0).step(Event::Unpin).is_err(), "nobody has pinned it");
        }
        assert!(word(State::Resident, PIN_MAX as u32).step(Event::Pin).is_err(), "as many as fit");
    }

    #[test]
    fn another_life_is_another_generation() {
        for (state, event) in [
            (State::Vacant, Event::Create),
            (State::Resident, Event::BeginEvict),
            (State::Limbo, Event::Reuse),
        ] {
            let next = Word::new(state, 0, 7).step(event).expect("a transition");
            assert_eq!(next.generation(), 8, "{event:?}");
        }
    }

    #[test]
    fn a_restarted_eviction_does_not_accept_the_old_copy() {
        let word = AtomicWord::default();
        word.apply(Event::Create).expect("vacant");
        let first = word.apply(Event::BeginEvict).expect("no pins");
        word.apply(Event::CancelEvict).expect("evicting");
        let second = word.apply(Event::BeginEvict).expect("no pins");
        assert!(word.apply_in(first, Event::BeginUnmap).is_err(), "stale generation");
        assert!(word.apply_in(second, Event::BeginUnmap).is_ok());
    }

    proptest! {
        /// Random walks keep the invariants: only Resident and Limbo hold pins, the generation
        /// never falls, evicted states are never mapped.
        #[test]
        fn walks_keep_invariants(events in proptest::collection::vec(0usize..Event::ALL.len(), 0..200)) {
            let mut word = Word::VACANT;
            for e in events {
                if let Ok(next) = word.step(Event::ALL[e]) {
                    prop_assert!(next.generation() >= word.generation());
                    prop_assert!(next.pins() == 0
                        || matches!(next.state(), State::Resident | State::Limbo));
                    prop_assert!(!(next.state().is_mapped() && next.state().is_evicted()));
                    word = next;
                }
            }
        }
    }
}
