//! `torch.cuda.set_per_process_memory_fraction`: a share of a card that PyTorch gives itself.
//!
//! Counts the bytes PyTorch asked for, per device, and refuses what would pass the share. The
//! `limit` of the library is apart from it and counts what is really held.
#![forbid(unsafe_code)]

use crate::driver::Api;
use crate::residency::engine::MAX_DEVICES;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

/// The share as the bits of an `f64`; 0 means none was set.
static SHARE: [AtomicU64; MAX_DEVICES] = [const { AtomicU64::new(0) }; MAX_DEVICES];
static USED: [AtomicU64; MAX_DEVICES] = [const { AtomicU64::new(0) }; MAX_DEVICES];

fn index(device: c_int) -> Option<usize> {
    usize::try_from(device).ok().filter(|&d| d < MAX_DEVICES)
}

/// Sets the share of `device`; PyTorch has checked that it is from 0 to 1. Nothing that is
/// allocated already is taken away.
pub fn set(device: c_int, share: f64) {
    if let Some(at) = index(device) {
        // +0.0 would read as "none", so a share of nothing is the smallest there is.
        let share = if share > 0.0 { share } else { f64::MIN_POSITIVE };
        SHARE[at].store(share.to_bits(), Ordering::Release);
    }
}

/// Counts `bytes` more; false when that would pass the share.
pub fn take(device: c_int, bytes: u64, api: &Api) -> bool {
    let Some(at) = index(device) else { return true };
    let most = match SHARE[at].load(Ordering::Acquire) {
        0 => u64::MAX,
        share => (f64::from_bits(share) * super::place::card_bytes(device, api) as f64) as u64,
    };
    let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= most);
    USED[at].fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
}

/// Counts `bytes` less.
pub fn give(device: c_int, bytes: u64) {
    if let Some(at) = index(device) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = USED[at].fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}
