//! One exclusive stream slot: internal uses pin it, a destroy waits for the pins.
//!
//! The user pins and reads the handle, the destroyer takes the handle away and reads the pins; a
//! fence between on both sides makes at least one of them see the other. `tests/model` runs this
//! file under loom, with the fences and without.
#![forbid(unsafe_code)]

use super::sync::{AtomicU32, AtomicUsize, Ordering, fence};

/// A slot.
#[derive(Debug)]
pub struct Slot {
    /// The stream; 0 for none.
    pub handle: AtomicUsize,
    /// Its context.
    pub ctx: AtomicUsize,
    /// Internal uses under way.
    pub pins: AtomicU32,
}

impl Slot {
    /// Gives the slot to a stream. Not two threads at once.
    pub fn give(&self, handle: usize, ctx: usize) {
        self.ctx.store(ctx, Ordering::Release);
        self.handle.store(handle, Ordering::Release);
    }

    /// Takes it away from its stream; the stream may go once the slot is not [`Slot::in_use`].
    pub fn take(&self) {
        self.handle.store(0, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether somebody uses the stream that it had or has.
    pub fn in_use(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Runs `f` with the stream, which is not destroyed meanwhile; `None` if it has gone.
    pub fn with_pinned<R>(&self, f: impl FnOnce(usize) -> R) -> Option<R> {
        /// Given back by a panic as well, or a destroy would wait for ever.
        struct Pin<'a>(&'a AtomicU32);
        impl Drop for Pin<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Release);
            }
        }
        self.pins.fetch_add(1, Ordering::Relaxed);
        let _pin = Pin(&self.pins);
        fence(Ordering::SeqCst);
        let handle = self.handle.load(Ordering::Acquire);
        (handle != 0).then(|| f(handle))
    }
}
