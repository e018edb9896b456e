//! How many operations hold pins that come free by themselves.
//!
//! Whoever has the ticket and finds everything pinned waits for them, and only for them: an
//! operation that queues for the ticket holds no pins, so waiting for it would be in vain.
#![forbid(unsafe_code)]

use super::sync::{AtomicU32, Ordering};
use std::cell::Cell;

/// The number of them.
#[derive(Debug)]
pub struct Holders(pub AtomicU32);

impl Holders {
    /// The operation of this thread (`mine`) takes pins. Only with the ticket.
    pub fn begin(&self, mine: &Cell<bool>) {
        if !mine.replace(true) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It has dropped them, if it had any.
    pub fn end(&self, mine: &Cell<bool>) {
        if mine.replace(false) {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// True while others hold pins.
    pub fn others(&self, mine: &Cell<bool>) -> bool {
        self.0.load(Ordering::Acquire) > u32::from(mine.get())
    }
}
