//! Private pools: memory that a captured graph will use again at every replay.
//!
//! What PyTorch allocates on a device while a pool is open belongs to that pool. Freed, it is kept
//! for the pool: given out again on the same stream while the pool is open, and to nobody else
//! before the pool is released as often as it was opened. PyTorch's filter, which tells which
//! streams mean the pool, is a C++ object and not called; so other streams' allocations made in
//! that time belong to it too, which holds them longer and is never wrong.
#![forbid(unsafe_code)]

use crate::driver::CUdeviceptr;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pool's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId {
    /// Its device.
    pub device: c_int,
    /// PyTorch's pair.
    pub id: (u64, u64),
}

/// Memory that PyTorch has freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// First byte.
    pub ptr: CUdeviceptr,
    /// Bytes PyTorch asked for.
    pub size: u64,
    /// Slot of the stream it was allocated on.
    pub slot: u8,
    /// Slots, as bits, that have to pass before others may have it.
    pub after: u64,
}

#[derive(Debug, Default)]
struct Pool {
    /// Times opened and not released.
    opened: u32,
    free: Vec<Held>,
}

#[derive(Debug)]
struct Pools {
    /// Open pools, the newest last.
    open: Vec<PoolId>,
    pools: Option<HashMap<PoolId, Pool>>,
    members: Option<HashMap<CUdeviceptr, PoolId>>,
}

static POOLS: Mutex<Pools> = Mutex::new(Pools { open: Vec::new(), pools: None, members: None });
/// Pools there are: ordinary jobs have none and pay one load.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Allocations on the pool's device belong to it from here on.
pub fn begin(id: PoolId) {
    let mut all = POOLS.lock();
    all.open.push(id);
    let pools = all.pools.get_or_insert_default();
    pools.entry(id).or_default().opened += 1;
    COUNT.store(pools.len(), Ordering::Release);
}

/// No longer.
pub fn end(id: PoolId) {
    let mut all = POOLS.lock();
    if let Some(at) = all.open.iter().rposition(|&open| open == id) {
        all.open.remove(at);
    }
}

/// The pool is released once; what it kept, if that was the last time.
pub fn release(id: PoolId) -> Vec<Held> {
    let mut all = POOLS.lock();
    let Some(pools) = &mut all.pools else { return Vec::new() };
    let Some(pool) = pools.get_mut(&id) else { return Vec::new() };
    pool.opened -= 1;
    if pool.opened > 0 {
        return Vec::new();
    }
    let kept = pools.remove(&id).map_or_else(Vec::new, |pool| pool.free);
    COUNT.store(pools.len(), Ordering::Release);
    all.open.retain(|&open| open != id);
    // What is still alive is ordinary memory from here on.
    if let Some(members) = &mut all.members {
        members.retain(|_, owner| *owner != id);
    }
    kept
}

/// Memory of this size that the open pool of `device` keeps for the stream.
pub fn reuse(device: c_int, size: u64, slot: u8) -> Option<CUdeviceptr> {
    if COUNT.load(Ordering::Acquire) == 0 || !crate::registry::streams::exclusive(slot) {
        return None;
    }
    let mut all = POOLS.lock();
    let id = *all.open.iter().rfind(|open| open.device == device)?;
    let pool = all.pools.as_mut()?.get_mut(&id)?;
    let fits = |held: &Held| held.size == size && held.slot == slot && held.after == 1 << slot;
    let at = pool.free.iter().rposition(fits)?;
    Some(pool.free.swap_remove(at).ptr)
}

/// Notes that new memory belongs to the open pool of `device`, if there is one.
pub fn adopt(device: c_int, ptr: CUdeviceptr) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    let mut all = POOLS.lock();
    if let Some(&id) = all.open.iter().rfind(|open| open.device == device) {
        all.members.get_or_insert_default().insert(ptr, id);
    }
}

/// Keeps freed memory for its pool; gives it back when it has none.
pub fn keep(device: c_int, held: Held) -> Option<Held> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return Some(held);
    }
    let mut all = POOLS.lock();
    let owner = all.members.as_ref().and_then(|members| members.get(&held.ptr).copied());
    let pool =
        owner.filter(|id| id.device == device).and_then(|id| all.pools.as_mut()?.get_mut(&id));
    match pool {
        Some(pool) => {
            pool.free.push(held);
            None
        }
        None => Some(held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the table is the process's own.
    #[test]
    fn a_pool_keeps_what_is_its_own() {
        let id = PoolId { device: 3, id: (0, 7) };
        let held = |ptr, slot: u8| Held { ptr, size: 64, slot, after: 1 << slot };
        adopt(3, 0x100);
        assert_eq!(keep(3, held(0x100, 5)), Some(held(0x100, 5)), "no pool is open");

        begin(id);
        adopt(3, 0x200);
        adopt(3, 0x300);
        adopt(4, 0x400);
        assert_eq!(keep(4, held(0x400, 5)), Some(held(0x400, 5)), "another device");
        assert_eq!(keep(3, held(0x200, 5)), None);
        assert_eq!(reuse(3, 64, 6), None, "another stream");
        assert_eq!(reuse(3, 128, 5), None, "another size");
        assert_eq!(reuse(3, 64, 5), Some(0x200));
        assert_eq!(keep(3, held(0x200, 5)), None);
        end(id);
        assert_eq!(reuse(3, 64, 5), None, "the pool is closed");

        begin(id);
        end(id);
        assert!(release(id).is_empty(), "opened twice");
        assert_eq!(release(id), [held(0x200, 5)]);
        assert!(release(id).is_empty(), "once more than opened");
        assert_eq!(keep(3, held(0x300, 5)), Some(held(0x300, 5)), "outlived its pool");
    }
}
