//! Streams and their slots: a stream's uses are one bit of 64.
//!
//! Slot 0 is the legacy stream, slot 1 every per-thread default stream, slot 63 all streams
//! beyond the others; 2 to 62 stand for one stream each. A destroyed stream's slot is not given
//! to another one before the device has been quiet, or the new stream would inherit the right to
//! reuse memory that the old one's work still touches.
//!
//! Look-ups are lock-free; changes take a lock. A destroy waits for internal uses of the stream
//! (`with_pinned`) to end.

use super::contexts;
use super::slot::Slot;
use crate::driver::Handle;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Slot of the legacy default stream.
pub const LEGACY: u8 = 0;
/// Slot that all per-thread default streams share.
pub const PER_THREAD: u8 = 1;
/// Slot of streams that found no slot of their own.
pub const OVERFLOW: u8 = 63;

const FIRST: u8 = 2;
/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
const HANDLE_LEGACY: usize = 1;
const HANDLE_PER_THREAD: usize = 2;

const TABLE: usize = 1024;
const GONE: usize = usize::MAX;

/// Open addressing by handle; a value is slot + 1.
struct Table {
    keys: [AtomicUsize; TABLE],
    slots: [AtomicU32; TABLE],
}

static STREAMS: Table = Table {
    keys: [const { AtomicUsize::new(0) }; TABLE],
    slots: [const { AtomicU32::new(0) }; TABLE],
};

static SLOTS: [Slot; 64] = [const {
    Slot { handle: AtomicUsize::new(0), ctx: AtomicUsize::new(0), pins: AtomicU32::new(0) }
}; 64];

/// Which exclusive slots may be given out, and which wait for the next quiet.
struct Free {
    free: u64,
    resting: u64,
}

static FREE: Mutex<Free> = Mutex::new(Free { free: !0 >> 1 & !0b11, resting: 0 });
static PER_THREAD_USED: AtomicBool = AtomicBool::new(false);
/// Streams without a slot of their own: (handle, context).
static EXTRA: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
static EXTRA_COUNT: AtomicU64 = AtomicU64::new(0);

/// A live stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its slot.
    pub slot: u8,
    /// Its context.
    pub ctx: usize,
}

fn home(handle: usize) -> usize {
    (handle >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - TABLE.trailing_zeros())
}

/// The slot of a stream argument. `per_thread` tells that the call was the variant in which a
/// null stream means the thread's own.
#[inline]
pub fn slot_of(stream: Handle, per_thread: bool) -> u8 {
    match stream as usize {
        0 if !per_thread => LEGACY,
        HANDLE_LEGACY => LEGACY,
        0 | HANDLE_PER_THREAD => {
            if !PER_THREAD_USED.load(Ordering::Relaxed) {
                PER_THREAD_USED.store(true, Ordering::SeqCst);
            }
            PER_THREAD
        }
        handle => find(handle).unwrap_or(OVERFLOW),
    }
}

#[inline]
fn find(handle: usize) -> Option<u8> {
    let mut at = home(handle);
    for _ in 0..TABLE {
        match STREAMS.keys[at].load(Ordering::Acquire) {
            key if key == handle => {
                return Some(STREAMS.slots[at].load(Ordering::Acquire) as u8);
            }
            0 => return None,
            _ => at = (at + 1) % TABLE,
        }
    }
    None
}

/// A stream was created in `ctx`.
pub fn created(stream: Handle, ctx: usize) {
    let handle = stream as usize;
    let mut free = FREE.lock();
    let slot = if free.free == 0 { OVERFLOW } else { free.free.trailing_zeros() as u8 };
    if slot == OVERFLOW || !insert(handle, slot) {
        EXTRA.lock().push((handle, ctx));
        EXTRA_COUNT.fetch_add(1, Ordering::Relaxed);
        return;
    }
    free.free &= !(1 << slot);
    SLOTS[usize::from(slot)].give(handle, ctx);
}

/// Under the lock of `FREE`.
fn insert(handle: usize, slot: u8) -> bool {
    debug_assert!(handle != 0 && handle != GONE && slot >= FIRST);
    let mut at = home(handle);
    // Half full is full: look-ups of unknown handles must end soon.
    for _ in 0..TABLE / 2 {
        let key = STREAMS.keys[at].load(Ordering::Relaxed);
        if key == 0 || key == GONE || key == handle {
            STREAMS.slots[at].store(u32::from(slot), Ordering::Release);
            STREAMS.keys[at].store(handle, Ordering::Release);
            return true;
        }
        at = (at + 1) % TABLE;
    }
    false
}

/// The stream is about to be destroyed: waits until nothing internal uses it. The hook calls this
/// before the driver; afterwards the handle means nothing any more.
pub fn destroying(stream: Handle) {
    let handle = stream as usize;
    let mut free = FREE.lock();
    let Some(slot) = find(handle).filter(|&s| s >= FIRST) else {
        let mut extra = EXTRA.lock();
        if let Some(at) = extra.iter().position(|&(h, _)| h == handle) {
            extra.swap_remove(at);
        }
        return;
    };
    let mut at = home(handle);
    while STREAMS.keys[at].load(Ordering::Relaxed) != handle {
        at = (at + 1) % TABLE;
    }
    bury(at);
    let entry = &SLOTS[usize::from(slot)];
    entry.take();
    free.resting |= 1 << slot;
    drop(free);
    while entry.in_use() {
        std::thread::yield_now();
    }
}

/// Takes the entry at `at` out, under the lock of `FREE`. At the end of a chain nothing is found
/// beyond it, so it and the graves before it become empty again and look-ups stay short.
fn bury(mut at: usize) {
    STREAMS.keys[at].store(GONE, Ordering::Release);
    if STREAMS.keys[(at + 1) % TABLE].load(Ordering::Relaxed) != 0 {
        return;
    }
    while STREAMS.keys[at].load(Ordering::Relaxed) == GONE {
        STREAMS.keys[at].store(0, Ordering::Release);
        at = (at + TABLE - 1) % TABLE;
    }
}

/// The context of a stream that was created in this process.
#[inline]
pub fn context_in(slot: u8, stream: Handle) -> Option<usize> {
    match slot {
        FIRST..OVERFLOW => Some(SLOTS[usize::from(slot)].ctx.load(Ordering::Acquire)),
        _ => context_of(stream),
    }
}

/// The context of a stream.
pub fn context_of(stream: Handle) -> Option<usize> {
    let handle = stream as usize;
    match find(handle) {
        Some(slot) if slot >= FIRST => Some(SLOTS[usize::from(slot)].ctx.load(Ordering::Acquire)),
        _ => EXTRA.lock().iter().find(|&&(h, _)| h == handle).map(|&(_, ctx)| ctx),
    }
}

/// All streams of a context have gone with it.
pub fn context_gone(ctx: usize) {
    let of_ctx = |s: &&Slot| s.ctx.load(Ordering::Acquire) == ctx;
    let handles: Vec<usize> =
        SLOTS.iter().filter(of_ctx).map(|s| s.handle.load(Ordering::Acquire)).collect();
    for handle in handles.into_iter().filter(|&h| h != 0) {
        destroying(handle as Handle);
    }
    EXTRA.lock().retain(|&(_, c)| c != ctx);
}

/// The device has been quiet: slots of destroyed streams may be given out again.
pub fn settled() {
    let mut free = FREE.lock();
    free.free |= free.resting;
    free.resting = 0;
}

/// Whether the slot stands for one stream alone, so that what one call used through it the next
/// one may reuse without waiting.
pub fn exclusive(slot: u8) -> bool {
    match slot {
        PER_THREAD | OVERFLOW => false,
        LEGACY => !contexts::several(),
        _ => true,
    }
}

/// Live streams, the default ones not among them.
pub fn live() -> Vec<Info> {
    let own = SLOTS.iter().enumerate().filter(|(_, s)| s.handle.load(Ordering::Acquire) != 0);
    own.map(|(i, s)| Info { slot: i as u8, ctx: s.ctx.load(Ordering::Acquire) }).collect()
}

/// True when there have ever been more streams than slots.
pub fn overflowed() -> bool {
    EXTRA_COUNT.load(Ordering::Relaxed) > 0
}

/// True once any per-thread default stream has been used.
pub fn per_thread_in_use() -> bool {
    PER_THREAD_USED.load(Ordering::SeqCst)
}

/// Runs `f` with the stream of a slot, which cannot be destroyed meanwhile; `None` if it has gone.
pub fn with_pinned<R>(slot: u8, f: impl FnOnce(Handle) -> R) -> Option<R> {
    SLOTS[usize::from(slot)].with_pinned(|handle| f(handle as Handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One at a time, since the tables are the process's own.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn slots_come_and_go() {
        let _alone = ALONE.lock();
        // Slots that another test gave back rest until the next quiet.
        settled();
        let stream = |n: usize| (0x5000_0000 + n * 64) as Handle;
        assert_eq!(slot_of(std::ptr::null_mut(), false), LEGACY);
        assert_eq!(slot_of(2 as Handle, false), PER_THREAD);
        assert_eq!(slot_of(std::ptr::null_mut(), true), PER_THREAD);
        assert!(per_thread_in_use() && !exclusive(PER_THREAD));

        for n in 0..100 {
            created(stream(n), 7);
        }
        let slots: std::collections::HashSet<u8> =
            (0..61).map(|n| slot_of(stream(n), false)).collect();
        assert_eq!(slots.len(), 61, "each has its own");
        assert_eq!(slot_of(stream(80), false), OVERFLOW);
        assert!(overflowed());

        let slot = slot_of(stream(3), false);
        assert_eq!(with_pinned(slot, |h| h as usize), Some(stream(3) as usize));
        destroying(stream(3));
        assert_eq!(slot_of(stream(3), false), OVERFLOW, "unknown again");
        assert_eq!(with_pinned(slot, |_| ()), None);
        created(stream(200), 7);
        assert_eq!(slot_of(stream(200), false), OVERFLOW, "the slot rests until the next quiet");
        settled();
        created(stream(3), 7);
        assert_eq!(slot_of(stream(3), false), slot, "same handle, new stream");

        assert_eq!(context_of(stream(3)), Some(7));
        assert_eq!(context_of(stream(80)), Some(7), "one without a slot of its own");
        assert_eq!(context_of(0x123 as Handle), None);
        context_gone(7);
        assert!(live().iter().all(|s| s.ctx != 7));
        assert_eq!(context_of(stream(80)), None);
    }

    #[test]
    fn a_destroy_waits_for_internal_uses() {
        let _alone = ALONE.lock();
        settled();
        let stream = 0x7000_0040 as Handle;
        created(stream, 9);
        let slot = slot_of(stream, false);
        assert_ne!(slot, OVERFLOW);
        let inside = AtomicBool::new(false);
        let destroyed = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                with_pinned(slot, |_| {
                    inside.store(true, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    assert!(!destroyed.load(Ordering::SeqCst));
                })
            });
            while !inside.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            destroying(stream);
            destroyed.store(true, Ordering::SeqCst);
        });
    }

    /// Streams are made, found and destroyed at once, their handles used again and again. Whoever
    /// looks up a stream that lives finds its slot, however the table changes around it.
    #[test]
    fn look_ups_hold_while_the_table_changes() {
        let _alone = ALONE.lock();
        settled();
        let kept = |n: usize| (0x6000_0000 + n * 16) as Handle;
        let slots = || (0..20).map(|n| slot_of(kept(n), false)).collect::<Vec<u8>>();
        (0..20).for_each(|n| created(kept(n), 11));
        let before = slots();
        assert!(before.iter().all(|&s| s != OVERFLOW));
        std::thread::scope(|s| {
            for t in 0..2usize {
                s.spawn(move || {
                    for n in 0..3000usize {
                        let stream = (0x6100_0000 + (t * 4096 + n % 4001) * 16) as Handle;
                        created(stream, 12);
                        let slot = slot_of(stream, false);
                        assert_ne!(slot, OVERFLOW);
                        assert_eq!(with_pinned(slot, |h| h as usize), Some(stream as usize));
                        destroying(stream);
                        assert_eq!(find(stream as usize), None);
                        settled();
                    }
                });
            }
            for _ in 0..2 {
                s.spawn(|| {
                    for _ in 0..2000 {
                        assert_eq!(slots(), before);
                    }
                });
            }
        });
        context_gone(11);
        let left = STREAMS.keys.iter().filter(|k| k.load(Ordering::Relaxed) == GONE).count();
        assert_eq!(left, 0, "graves are levelled once nothing lies behind them");
        settled();
    }
}
