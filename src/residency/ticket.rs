//! The admission ticket: one rescue or restore at a time, and the only licence to unmap.
//!
//! Whoever holds it may change mappings; nobody else does. So a scan may read every mapped block
//! without fearing that it vanishes. Waiting for it is always bounded. It may be held across
//! driver calls: no hook takes it on its fast path, and every wait inside is bounded too.

use super::engine::MAX_DEVICES;
use crate::codec::cpu::Coder;
use crate::config;
use crate::tier::{Arena, Store};
use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What the holder works with.
#[derive(Debug)]
pub struct Work {
    /// The host tier.
    pub arena: Arena,
    /// Where pages pass through between device and arena.
    pub staging: Vec<u8>,
    /// As large, for what is read back to be compared.
    pub back: Vec<u8>,
    /// The device stores, by device.
    pub stores: Vec<Store>,
    /// Codes and decodes on the host.
    pub coder: Coder,
}

impl Work {
    fn new(staging: Vec<u8>, back: Vec<u8>) -> Work {
        let stores = (0..MAX_DEVICES).map(|_| Store::default()).collect();
        Work { arena: Arena::new(0, 0), staging, back, stores, coder: Coder::new() }
    }

    /// The store of a device.
    pub fn store(&mut self, device: u8) -> &mut Store {
        &mut self.stores[usize::from(device)]
    }
}

/// Bytes of each staging buffer.
pub const STAGING: usize = 4 << 20;

/// Proof of holding the ticket.
pub type Ticket = MutexGuard<'static, Option<Work>>;

static TICKET: Mutex<Option<Work>> = Mutex::new(None);

/// Takes the ticket within the configured patience.
pub fn take() -> Option<Ticket> {
    take_within(config::get().restore_wait)
}

/// Takes the ticket before `deadline`.
pub fn take_until(deadline: Instant) -> Option<Ticket> {
    TICKET.try_lock_until(deadline)
}

/// Takes the ticket within `patience`.
pub fn take_within(patience: Duration) -> Option<Ticket> {
    TICKET.try_lock_for(patience)
}

/// Takes the ticket if nobody has it.
pub fn try_take() -> Option<Ticket> {
    TICKET.try_lock()
}

/// Makes the working set ahead of time; false where there is no memory for it. Later it would be
/// needed when memory is shortest.
pub fn prepare() -> bool {
    let Some(mut ticket) = take() else { return false };
    if ticket.is_none() {
        let mut staging = Vec::new();
        if staging.try_reserve_exact(STAGING).is_err() {
            return false;
        }
        staging.resize(STAGING, 0);
        let mut back = Vec::new();
        if back.try_reserve_exact(STAGING).is_err() {
            return false;
        }
        back.resize(STAGING, 0);
        *ticket = Some(Work::new(staging, back));
    }
    true
}

/// The working set of the holder.
pub fn work(ticket: &mut Ticket) -> &mut Work {
    let work = ticket.get_or_insert_with(|| Work::new(vec![0; STAGING], vec![0; STAGING]));
    // Nothing, too, is the answer where the machine could not be asked: it may be by now.
    if work.arena.limit() == 0 {
        let limit = config::get().host_limit_bytes();
        crate::stats::page().host_limit.set(limit);
        work.arena.set_limit(limit, (limit / 8).clamp(1 << 20, 64 << 20) as usize);
    }
    work
}
