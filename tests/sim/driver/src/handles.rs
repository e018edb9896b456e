//! Values of handles.
//!
//! The driver's handles are addresses that its allocator uses again sooner or later. Here they are
//! addresses that nobody can dereference, and an ended one comes back only after `QUARANTINE`
//! others: a stale handle is found out most of the time, and a program that believes values never
//! return is found out too.

use parking_lot::Mutex;
use std::collections::VecDeque;

const QUARANTINE: usize = 64;
const SLOT: usize = 64;
const REGION: usize = 1 << 30;

/// A handle's value, its own for as long as this lives.
#[derive(Debug)]
pub struct Id(usize);

struct Slots {
    base: usize,
    unused: usize,
    ended: VecDeque<usize>,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { base: 0, unused: 0, ended: VecDeque::new() });

impl Id {
    /// A value that no live handle has.
    pub fn new() -> Id {
        let mut slots = SLOTS.lock();
        if slots.base == 0 {
            slots.base = region();
        }
        let full = slots.unused + SLOT > REGION;
        if (slots.ended.len() >= QUARANTINE || full)
            && let Some(value) = slots.ended.pop_front()
        {
            return Id(value);
        }
        let value = slots.base + slots.unused;
        slots.unused += SLOT;
        Id(value)
    }

    /// The value.
    pub fn get(&self) -> usize {
        self.0
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        SLOTS.lock().ended.push_back(self.0);
    }
}

/// Addresses that nothing else can get.
fn region() -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new inaccessible mapping, never removed.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), REGION, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        // Not canonical: no mapping can ever be there.
        return 0x5000_0000_0000_0000;
    }
    at as usize
}
