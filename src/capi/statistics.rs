//! `coldpress_stats_t`: the numbers of the statistics page, summed over the devices.

use super::status::{self, Failure, failure};
use crate::residency::{control, engine};
use crate::stats::{self, Counter, DevicePage};

/// The structure of the header. Fields are only ever added at the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "include/coldpress.h documents them")]
pub struct Stats {
    pub size: u32,
    pub version: u32,
    pub devices: u32,
    pub eviction_off: u32,
    pub allocations: u64,
    pub frees: u64,
    pub logical_bytes: u64,
    pub resident_bytes: u64,
    pub spilled_bytes: u64,
    pub pinned_bytes: u64,
    pub charged_bytes: u64,
    pub peak_bytes: u64,
    pub limit_bytes: u64,
    pub host_bytes: u64,
    pub launches: u64,
    pub launch_waits: u64,
    pub launch_wait_ns: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub restores: u64,
    pub restored_bytes: u64,
    pub verified_bytes: u64,
    pub verify_failures: u64,
    pub oom_avoided: u64,
    pub oom_returned: u64,
    pub over_limit: u64,
}

const VERSION: u32 = 1;
/// What every version of the structure begins with.
const HEAD: u32 = 16;

/// Fills `out` as far as its own size goes.
///
/// # Safety
/// `out` is null or as many writable bytes as its first word says.
pub unsafe fn fill(out: *mut Stats) -> Result<(), Failure> {
    if out.is_null() {
        return Err(failure(status::INVALID, "stats: no structure"));
    }
    // SAFETY: not null, so at least the size can be read.
    let room = unsafe { (&raw const (*out).size).read() };
    if room < HEAD {
        let text = format!("stats: size is {room}; set it to sizeof(coldpress_stats_t)");
        return Err(failure(status::INVALID, text));
    }
    let size = room.min(size_of::<Stats>() as u32);
    let now = Stats { size, ..collect() };
    // SAFETY: `size` bytes are the caller's to write, and no more than there are in `now`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const now).cast::<u8>(),
            out.cast::<u8>(),
            size as usize,
        );
    }
    Ok(())
}

fn collect() -> Stats {
    control::publish_gauges();
    let page = stats::page();
    let devices = &page.devices[..engine::devices().len().min(stats::DEVICES)];
    let sum = |of: fn(&DevicePage) -> &Counter| devices.iter().map(|d| of(d).get()).sum();
    Stats {
        size: 0,
        version: VERSION,
        devices: devices.len() as u32,
        eviction_off: u32::from(!engine::armed()),
        allocations: page.allocations.get(),
        frees: page.frees.get(),
        logical_bytes: page.logical.get(),
        resident_bytes: sum(|d| &d.resident),
        spilled_bytes: sum(|d| &d.spilled),
        pinned_bytes: sum(|d| &d.pinned[0]),
        charged_bytes: sum(|d| &d.charged),
        peak_bytes: sum(|d| &d.peak),
        limit_bytes: sum(|d| &d.limit),
        host_bytes: page.host_bytes.get(),
        launches: page.launches.get(),
        launch_waits: page.launch_waits.count(),
        launch_wait_ns: page.launch_waits.sum_ns(),
        evictions: page.evictions.get(),
        evicted_bytes: page.evicted_bytes.get(),
        restores: page.restores.get(),
        restored_bytes: page.restored_bytes.get(),
        verified_bytes: page.bytes_verified.get(),
        verify_failures: page.verify_failures.get(),
        oom_avoided: page.oom_avoided.get(),
        oom_returned: page.oom_returned.get(),
        over_limit: page.over_limit_launches.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_program_gets_what_it_has_room_for() {
        let mut out = Stats { size: 24, frees: 77, ..Stats::default() };
        // SAFETY: `out` is larger than its size says.
        assert_eq!(unsafe { fill(&mut out) }, Ok(()));
        assert_eq!((out.size, out.version, out.frees), (24, VERSION, 77));
        out.size = 4096;
        // SAFETY: the structure is written no further than this library's own size.
        assert_eq!(unsafe { fill(&mut out) }, Ok(()));
        assert_eq!(out.size as usize, size_of::<Stats>());
        out.size = 15;
        // SAFETY: as above; and null is refused.
        let refused = unsafe { [fill(&mut out), fill(std::ptr::null_mut())] };
        assert!(refused.iter().all(|r| r.as_ref().is_err_and(|f| f.code == status::INVALID)));
    }
}
