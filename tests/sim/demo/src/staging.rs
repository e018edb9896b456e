//! Page-locked host memory that asynchronous copies go through.

use crate::error::{During, Result};
use crate::lanes::{Lanes, Mark};
use cuda_client::Driver;
use std::ffi::c_void;

/// One page-locked piece of host memory.
#[derive(Debug)]
struct Slot {
    at: *mut c_void,
    /// Set when the memory is the program's own, registered; it backs `at`.
    own: Option<Vec<u8>>,
    /// The copy that used it last.
    busy: Mark,
}

/// A ring of slots, each as large as the largest buffer that goes through.
#[derive(Debug)]
pub struct Staging {
    slots: Vec<Slot>,
    bytes: usize,
    next: usize,
}

/// A slot handed out until [`Staging::used`].
#[derive(Debug, Clone, Copy)]
pub struct Pinned {
    slot: usize,
    /// Valid for the staging's size; nothing on the device uses it.
    pub at: *mut c_void,
}

impl Staging {
    /// Three slots from the driver and one of our own, registered.
    pub fn create(driver: &Driver, bytes: usize) -> Result<Staging> {
        let mut slots = Vec::new();
        for _ in 0..3 {
            let at = driver.host_alloc(bytes, 0).during("allocate pinned memory")?;
            slots.push(Slot { at, own: None, busy: Mark::NEVER });
        }
        let mut own = vec![0u8; bytes];
        let at: *mut c_void = own.as_mut_ptr().cast();
        // SAFETY: the vector is kept beside `at`, never resized, and unregistered before it goes.
        unsafe { driver.host_register(at, bytes, 0) }.during("register host memory")?;
        slots.push(Slot { at, own: Some(own), busy: Mark::NEVER });
        Ok(Staging { slots, bytes, next: 0 })
    }

    /// Bytes of a slot.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next slot, once the copy that used it has passed.
    pub fn take(&mut self, driver: &Driver, lanes: &mut Lanes, query: bool) -> Result<Pinned> {
        let slot = self.next;
        self.next = (self.next + 1) % self.slots.len();
        lanes.wait(driver, self.slots[slot].busy, query)?;
        Ok(Pinned { slot, at: self.slots[slot].at })
    }

    /// Says which copy uses the slot.
    pub fn used(&mut self, pinned: Pinned, mark: Mark) {
        self.slots[pinned.slot].busy = mark;
    }

    /// Gives everything back; nothing may be in flight.
    pub fn destroy(self, driver: &Driver) -> Result<()> {
        for slot in self.slots {
            match slot.own {
                Some(_) => driver.host_unregister(slot.at).during("unregister host memory")?,
                // SAFETY: the caller waited for all streams.
                None => unsafe { driver.host_free(slot.at) }.during("free pinned memory")?,
            }
        }
        Ok(())
    }
}
