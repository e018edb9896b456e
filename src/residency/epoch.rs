//! The grace protocol of launch sections: a thread's epoch and the flag that stops the world.
//!
//! One side stores its epoch and reads the flag, the other stores the flag and reads the epochs;
//! a fence between store and load on both sides makes at least one of them see the other.
//! `tests/model` runs this file under loom, with the fences and without.
#![forbid(unsafe_code)]

use super::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// One thread's epoch: odd inside a section. Only its thread writes it.
#[derive(Debug)]
pub struct Epoch(pub AtomicU64);

/// Whether the world is stopped.
#[derive(Debug)]
pub struct Flag(pub AtomicBool);

impl Epoch {
    /// Enters; false, and outside, if the world is stopped.
    #[inline]
    pub fn try_enter(&self, flag: &Flag) -> bool {
        let epoch = self.0.load(Ordering::Relaxed);
        debug_assert!(epoch & 1 == 0, "sections do not nest");
        // Release: who sees this one knows that all before it were left.
        self.0.store(epoch.wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
        if !flag.stopped() {
            return true;
        }
        self.0.store(epoch.wrapping_add(2), Ordering::Release);
        false
    }

    /// Leaves.
    #[inline]
    pub fn leave(&self) {
        let epoch = self.0.load(Ordering::Relaxed);
        self.0.store(epoch.wrapping_add(1), Ordering::Release);
    }

    /// Returns when the section that the thread is in has been left; false as soon as `wait`,
    /// called between looks, gives up. After [`Flag::stop`] no other section follows it.
    pub fn drained(&self, mut wait: impl FnMut() -> bool) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        if seen & 1 == 0 {
            return true;
        }
        while self.0.load(Ordering::Acquire) == seen {
            if !wait() {
                return false;
            }
        }
        true
    }
}

impl Flag {
    /// Stops the world: from here on nobody enters who has not been seen by [`Epoch::drained`].
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Lets the world run again; who enters sees what was done meanwhile.
    pub fn resume(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether the world is stopped.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
