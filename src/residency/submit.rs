//! The way every operation on device memory takes: operands resident, stamped, then the call.
//!
//! Fast path, inside a launch section: one map look-up, one state check and one stamp per
//! operand; no lock, no allocation. Slow path: leave the section, take the ticket, pin what is
//! resident, restore what is not, enter again, check again, call, unpin.

use super::block::{BLOCKS, Block};
use super::engine::{self, EVICTED};
use super::evict::Why;
use super::holders::Holders;
use super::patience::{self, Effort, PATIENCE, patiently};
use super::restore::{POISONED, restore};
use super::scan::Targets;
use super::state::{Event, Gathered, State};
use super::ticket::{self, STAGING, Ticket};
use super::{evict, quiet, scan, section};
use crate::driver::{CUdeviceptr, CUresult, code};
use crate::fault;
use crate::heap::{MAP, View};
use crate::registry::{functions::Places, host};
use crate::stats;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A range of device memory that an operation reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// First byte.
    pub ptr: CUdeviceptr,
    /// Bytes; 0 means nothing.
    pub len: usize,
}

/// Makes every operand resident, stamps it with `slot`, calls `call` exactly once inside a launch
/// section and returns its result. `payload`: host bytes this operation brings to the device;
/// evicted blocks they name are restored first.
pub fn submit(
    slot: u8,
    operands: &[Operand],
    payload: Option<(*const u8, usize)>,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    let needs = Needs { operands, payload, ..Needs::default() };
    run(slot, &needs, call)
}

/// As [`submit`] for a kernel: `places` tells where its parameters can hold an address, `values`
/// is the program's array of pointers to them.
///
/// # Safety
/// `values` must hold one valid pointer per parameter, as the driver requires.
#[inline(always)]
pub unsafe fn launch(
    slot: u8,
    places: &Places,
    values: *const *const c_void,
    call: impl FnOnce() -> CUresult,
) -> CUresult {
    if EVICTED.load(Ordering::Relaxed) == 0 && !engine::torture() {
        fault::pause("launch");
        let section = section::enter();
        // SAFETY: the caller's promise.
        let resident = unsafe { stamp_all(places, values, 1u64.wrapping_shl(u32::from(slot))) };
        // Still nothing evicted, seen from inside the section: what was checked stays true.
        if resident && EVICTED.load(Ordering::SeqCst) == 0 {
            section.count_launch();
            return call();
        }
    }
    // SAFETY: the caller's promise.
    launch_words(slot, &unsafe { places.words(values) }, call)
}

/// Stamps every block that the parameters name; true if all of them are resident. A function of
/// its own so that the loop has the registers to itself.
///
/// # Safety
/// As for [`launch`]; inside a section.
#[inline(never)]
unsafe fn stamp_all(places: &Places, values: *const *const c_void, bit: u64) -> bool {
    let (base, span, shift, map) = MAP.view().parts();
    let blocks = BLOCKS.view();
    let now = super::now();
    let mut states = Gathered::default();
    let mut look = |word: u64| {
        let offset = word.wrapping_sub(base);
        if offset < span {
            // SAFETY: the map has span >> shift entries for ever, and a span above zero only once
            // it and the block table are installed. The shift is that of a granule, so it wraps
            // nothing and need not be checked sixteen times a launch.
            let block = unsafe {
                let id = (*map.add(offset.wrapping_shr(shift) as usize)).load(Ordering::Acquire);
                blocks.get(id)
            };
            states.add(&block.word);
            block.stamp(bit, now);
        }
    };
    for i in 0..places.plain {
        // SAFETY: the caller promises a valid pointer to each parameter; these are words.
        look(unsafe { (*values.add(i)).cast::<u64>().read_unaligned() });
    }
    for probe in &places.rest {
        // SAFETY: as above.
        look(unsafe { probe.word(values) });
    }
    states.all_resident()
}

/// A kernel whose parameter bytes are in one buffer (the `extra` form), or of unknown layout:
/// `words` is every 8-byte word of them at a stride of 4.
pub fn launch_words(slot: u8, words: &[u64], call: impl FnOnce() -> CUresult) -> CUresult {
    let needs = Needs { words, kernel: true, ..Needs::default() };
    run(slot, &needs, call)
}

/// What an operation can reach.
#[derive(Default)]
struct Needs<'a> {
    operands: &'a [Operand],
    words: &'a [u64],
    payload: Option<(*const u8, usize)>,
    kernel: bool,
}

fn run(slot: u8, needs: &Needs<'_>, call: impl FnOnce() -> CUresult) -> CUresult {
    let view = MAP.view();
    let bits = 1u64 << slot;
    let mut call = Some(call);
    let mut once = |section: &section::Section| {
        if needs.kernel {
            section.count_launch();
        }
        match call.take() {
            Some(call) => call(),
            None => code::UNKNOWN,
        }
    };
    let mut result = None;
    {
        let section = section::enter();
        let hidden = EVICTED.load(Ordering::SeqCst) != 0 && needs.hides_cold(view);
        if !hidden && needs.all_resident(view, bits) {
            result = Some(once(&section));
        }
    }
    let result = match result {
        Some(result) => result,
        None => rescue(needs, view, bits, once),
    };
    torture_step();
    result
}

impl Needs<'_> {
    /// Calls `f` with the id of every block the operation names directly.
    fn each_block(&self, view: View, mut f: impl FnMut(u32)) {
        for operand in self.operands {
            let mut at = operand.ptr;
            let end = operand.ptr.saturating_add(operand.len as u64);
            while at < end {
                match view.lookup(at) {
                    Some(0) => at = (at | ((1 << view.shift()) - 1)).saturating_add(1),
                    Some(id) => {
                        f(id);
                        let block = BLOCKS.get(id);
                        let granules = u64::from(block.granules.load(Ordering::Relaxed)) + 1;
                        at = block.base() + (granules << view.shift());
                    }
                    // Outside the heap: an operand is one allocation, so it is not ours.
                    None => break,
                }
            }
        }
        for &word in self.words {
            if let Some(id) = view.lookup(word).filter(|&id| id != 0) {
                f(id);
            }
        }
    }

    /// Stamps all; true if all may be used.
    fn all_resident(&self, view: View, bits: u64) -> bool {
        let now = super::now();
        let mut all = true;
        self.each_block(view, |id| {
            let block = BLOCKS.get(id);
            // A stale word may name a freed block: nobody's data, nothing to restore.
            all &= block.word.is_resident()
                || matches!(block.word.load().state(), State::Limbo | State::Vacant);
            block.stamp(bits, now);
        });
        all
    }

    /// Blocks named through memory this operation brings or can follow: the bytes of a host to
    /// device copy, and all pinned host memory whose address the device has ever been given. All
    /// blocks that are away, where host memory cannot be looked at.
    fn hidden(&self, view: View, buffer: &mut [u8]) -> Vec<u32> {
        self.found(view, buffer).unwrap_or_else(|_| {
            let away = |&id: &u32| BLOCKS.get(id).word.load().state().is_evicted();
            BLOCKS.ids().filter(away).collect()
        })
    }

    fn found(&self, view: View, buffer: &mut [u8]) -> Result<Vec<u32>, CUresult> {
        let mut hits = scan::Hits::default();
        let targets = Targets::now();
        if let Some((ptr, len)) = self.payload {
            scan::host_range(ptr as usize, len, targets, &mut hits, buffer)?;
        }
        hits.expose();
        if self.kernel {
            for &word in self.words {
                host::expose(word);
            }
            for (ptr, len) in host::exposed() {
                scan::host_range(ptr, len, targets, &mut hits, buffer)?;
            }
        }
        Ok(hits.granules.into_iter().map(|g| view.at(g)).filter(|&id| id != 0).collect())
    }

    /// Whether any block reached that way is not resident now.
    fn hides_cold(&self, view: View) -> bool {
        if self.payload.is_none() && !self.kernel {
            return false;
        }
        let cold = |id: u32| {
            let state = BLOCKS.get(id).word.load().state();
            !matches!(state, State::Resident | State::Limbo | State::Vacant)
        };
        self.hidden(view, &mut [0; 16 << 10]).into_iter().any(cold)
    }
}

static HOLDERS: Holders = Holders(AtomicU32::new(0));
thread_local! {
    /// Whether the operation of this thread is one of them.
    static HOLDING: Cell<bool> = const { Cell::new(false) };
}

/// True while other threads' operations keep blocks pinned that will come free by themselves.
pub fn others_hold_pins() -> bool {
    HOLDING.with(|mine| HOLDERS.others(mine))
}

/// The pins of one operation, dropped together.
#[derive(Default)]
struct Pins(Vec<&'static Block>);

impl Pins {
    /// Only with the ticket, which is what makes the pins of others come free by themselves.
    fn try_add(&mut self, block: &'static Block, _ticket: &Ticket) -> bool {
        let pinned = block.word.apply(Event::Pin).is_ok();
        if pinned {
            HOLDING.with(|mine| HOLDERS.begin(mine));
            self.0.push(block);
        }
        pinned
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for block in &self.0 {
            let _ = block.word.apply(Event::Unpin);
        }
        HOLDING.with(|mine| HOLDERS.end(mine));
    }
}

/// The slow path. Out of memory drops the pins and the operation queues again, until the
/// configured patience ends: two operations that each hold half of what the other needs would
/// wait for ever.
#[cold]
fn rescue(
    needs: &Needs<'_>,
    view: View,
    bits: u64,
    call: impl FnOnce(&section::Section) -> CUresult,
) -> CUresult {
    let started = Instant::now();
    let deadline = patience::deadline();
    loop {
        let prepared = patiently(deadline, true, |ticket, effort| {
            let mut pins = Pins::default();
            match prepare(needs, view, ticket, effort, &mut pins) {
                Ok(()) => Ok(pins),
                // Another process may give memory back: an operation of the program waits for it.
                Err(code::OUT_OF_MEMORY) => Err(code::NOT_READY),
                Err(e) => Err(e),
            }
        });
        let _pins = match prepared {
            Ok(pins) => pins,
            Err(e) => {
                stats::page().oom_returned.add(u64::from(e == code::OUT_OF_MEMORY));
                return e;
            }
        };
        fault::pause("prepared");
        let section = section::enter();
        // Pinned and resident: no eviction can have touched them, only a free.
        if needs.all_resident(view, bits) {
            stats::page().waited(started.elapsed());
            return call(&section);
        }
        if Instant::now() >= deadline {
            return code::UNKNOWN;
        }
    }
}

/// Pins and restores everything the operation can reach.
fn prepare(
    needs: &Needs<'_>,
    view: View,
    ticket: &mut Ticket,
    effort: Effort,
    pins: &mut Pins,
) -> Result<(), CUresult> {
    let mut ids = needs.hidden(view, &mut ticket::work(ticket).staging[..STAGING]);
    needs.each_block(view, |id| ids.push(id));
    ids.sort_unstable();
    ids.dedup();
    // Resident ones first: restoring the others must not evict them.
    ids.retain(|&id| !pins.try_add(BLOCKS.get(id), ticket));
    for id in ids {
        let block = BLOCKS.get(id);
        match block.word.load().state() {
            State::Poisoned => return Err(POISONED),
            // Freed by the program: what it does with the address is between it and the driver.
            State::Limbo | State::Vacant => continue,
            _ => {}
        }
        restore(id, ticket, effort)?;
        pins.try_add(block, ticket);
    }
    Ok(())
}

thread_local! {
    static TORTURING: Cell<bool> = const { Cell::new(false) };
}

/// Evicts everything that can be: after every operation, in `torture`.
pub fn torture_step() {
    if !engine::torture() || !engine::armed() || TORTURING.with(|t| t.replace(true)) {
        return;
    }
    if let Some(mut ticket) = ticket::try_take()
        && let Ok(Some(quiet)) = quiet::reach(PATIENCE, &ticket)
    {
        for device in engine::devices() {
            evict::evict(device, u64::MAX, Why::Room, &mut ticket, &quiet);
        }
    }
    TORTURING.with(|t| t.set(false));
}
