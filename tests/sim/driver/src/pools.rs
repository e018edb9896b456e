//! Memory pools: which exist, which a device uses, how much is taken from each.
//!
//! A pool keeps nothing back: memory that is freed leaves it at once, so what it has reserved is
//! what is in use.

use crate::abi::{Handle, Outcome, code};
use crate::card::MAX;
use crate::handles::Id;
use parking_lot::Mutex;
use std::collections::HashMap;

/// A memory pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub device: usize,
    pub default: bool,
    pub threshold: u64,
    pub used: u64,
    pub high: u64,
}

#[derive(Debug, Default)]
struct Pools {
    all: HashMap<usize, (Id, Pool)>,
    default: [usize; MAX],
    /// What a device uses instead of its default pool.
    chosen: [usize; MAX],
}

static POOLS: Mutex<Option<Pools>> = Mutex::new(None);

impl Pools {
    fn create(&mut self, device: usize, default: bool) -> usize {
        let id = Id::new();
        let handle = id.get();
        let pool = Pool { device, default, threshold: 0, used: 0, high: 0 };
        self.all.insert(handle, (id, pool));
        handle
    }

    fn default(&mut self, device: usize) -> usize {
        if self.default[device] == 0 {
            self.default[device] = self.create(device, true);
        }
        self.default[device]
    }
}

/// The default pool of a device.
pub fn default(device: usize) -> Handle {
    POOLS.lock().get_or_insert_default().default(device) as Handle
}

/// The pool that stream-ordered allocations of a device use.
pub fn current(device: usize) -> Handle {
    let mut pools = POOLS.lock();
    let pools = pools.get_or_insert_default();
    match pools.chosen[device] {
        0 => pools.default(device) as Handle,
        handle => handle as Handle,
    }
}

/// Chooses it.
pub fn set_current(device: usize, pool: Handle) -> Outcome {
    if find(pool)?.device != device {
        return Err(code::INVALID_VALUE);
    }
    POOLS.lock().get_or_insert_default().chosen[device] = pool as usize;
    Ok(())
}

/// Makes a pool.
pub fn create(device: usize) -> Handle {
    POOLS.lock().get_or_insert_default().create(device, false) as Handle
}

/// A live pool.
pub fn find(pool: Handle) -> Outcome<Pool> {
    crate::sim::ready()?;
    let pools = POOLS.lock();
    let found = pools.as_ref().and_then(|p| p.all.get(&(pool as usize)));
    found.map(|(_, p)| *p).ok_or(code::INVALID_VALUE)
}

/// Changes a live pool.
pub fn change(pool: usize, f: impl FnOnce(&mut Pool)) {
    if let Some((_, pool)) = POOLS.lock().as_mut().and_then(|p| p.all.get_mut(&pool)) {
        f(pool);
    }
}

/// Memory was taken from a pool.
pub fn taken(pool: usize, bytes: u64) {
    change(pool, |p| {
        p.used += bytes;
        p.high = p.high.max(p.used);
    });
}

/// Memory came back.
pub fn returned(pool: usize, bytes: u64) {
    change(pool, |p| p.used = p.used.saturating_sub(bytes));
}

/// Ends a pool; a device that used it uses its default pool again.
pub fn destroy(pool: Handle) -> Outcome {
    let Pool { device, default, .. } = find(pool)?;
    if default {
        return Err(code::INVALID_VALUE);
    }
    let mut pools = POOLS.lock();
    let pools = pools.get_or_insert_default();
    pools.all.remove(&(pool as usize));
    if pools.chosen[device] == pool as usize {
        pools.chosen[device] = 0;
    }
    Ok(())
}
