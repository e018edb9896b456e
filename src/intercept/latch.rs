//! Entry points whose reach nobody has worked out: the call restores everything and turns
//! eviction off, then goes on to the driver.
//!
//! Two kinds: exports marked so in `surface.txt`, and pointers of the real resolver that are in
//! no list. The latter get a thunk out of a fixed pool, because only a *call* matters: runtimes
//! look up hundreds of functions that they never use.

use super::{bind, guard};
use crate::driver::code;
use crate::exports::{EXPORTS, Onward, Slot, entry};
use crate::residency::control;
use parking_lot::Mutex;

/// Thunks there are.
const POOL: usize = 512;

/// Where the thunks lead.
static THUNKS: [Slot; POOL] = [const { Slot::new(entry) }; POOL];

/// An unlisted function; its place in the list is its thunk's number.
#[derive(Debug)]
struct Unknown {
    real: usize,
    /// As the user sees it.
    name: String,
}

static UNKNOWN: Mutex<Vec<Unknown>> = Mutex::new(Vec::new());

/// `POOL` thunks, 16 bytes apart, each a tail jump through its slot.
#[unsafe(naked)]
unsafe extern "C" fn thunks() {
    core::arch::naked_asm!(
        ".set .Lcoldpress_thunk, 0",
        ".rept {pool}",
        ".balign 16",
        "lea r11, [rip + {thunks} + .Lcoldpress_thunk]",
        "jmp qword ptr [r11]",
        ".set .Lcoldpress_thunk, .Lcoldpress_thunk + 8",
        ".endr",
        pool = const POOL,
        thunks = sym THUNKS,
    )
}

const STRIDE: usize = 16;

fn thunk(index: usize) -> *const () {
    (thunks as *const ()).wrapping_byte_add(index * STRIDE)
}

/// The thunk for an unlisted function `real` that was asked for as `name` at `version`; the same
/// one for the same function always.
pub fn unknown(real: *const (), name: &str, version: i32) -> *const () {
    let mut list = UNKNOWN.lock();
    if let Some(index) = list.iter().position(|u| u.real == real as usize) {
        return thunk(index);
    }
    let name = format!("unknown entry point {name}@{version}");
    if list.len() < POOL {
        list.push(Unknown { real: real as usize, name });
        return thunk(list.len() - 1);
    }
    drop(list);
    // Without a thunk the call would not be seen.
    if guard::ours("latch", code::UNKNOWN, || control::latch(&name)) == code::SUCCESS {
        real
    } else {
        std::ptr::null()
    }
}

/// Leads all thunks in use to their functions; only stores (see `bind::pass_all`), except that
/// the list may be locked for ever: then the thunks stay as they are.
pub fn pass_all() {
    let Some(list) = UNKNOWN.try_lock() else { return };
    for (slot, unknown) in THUNKS.iter().zip(list.iter()) {
        slot.lead_to(unknown.real as *const ());
    }
}

entry! {
    /// Where the slot of such an entry point leads until its first call.
    pub entry => hit
}

extern "C" fn hit(slot: *const Slot) -> Onward {
    let Some((real, name)) = meant(slot) else { return Onward::answer(code::UNKNOWN) };
    // The driver's own call, from inside a call that is being followed.
    if guard::entered() {
        return Onward::to(real);
    }
    match guard::ours("latch", code::UNKNOWN, || control::latch(&name)) {
        code::SUCCESS => {
            // SAFETY: a stub or thunk passed the address of its slot, a static.
            unsafe { (*slot).lead_to(real) };
            Onward::to(real)
        }
        failed => Onward::answer(failed),
    }
}

/// The real function and the name behind a slot.
fn meant(slot: *const Slot) -> Option<(*const (), String)> {
    if let Some(index) = bind::index_of(slot) {
        return Some((bind::real(index), EXPORTS[index].name().to_owned()));
    }
    let at = (slot as usize).checked_sub(THUNKS.as_ptr() as usize)? / size_of::<Slot>();
    let list = UNKNOWN.lock();
    let unknown = list.get(at)?;
    Some((unknown.real as *const (), unknown.name.clone()))
}
