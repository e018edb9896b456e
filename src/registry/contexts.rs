//! Contexts and the device each belongs to.

use crate::driver::{self, CUresult, Handle, code};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A live context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The driver's handle.
    pub handle: usize,
    /// Ordinal of its device.
    pub device: u8,
}

static LIVE: RwLock<Vec<Context>> = RwLock::new(Vec::new());
/// The first of `LIVE` once more, for look-ups without a lock: handle and device in one word,
/// which the alignment of handles leaves room for. 0 for none.
static FIRST: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
const DEVICE: usize = 15;
/// Primary contexts by device ordinal, with the program's retains that were not released yet.
static PRIMARY: Mutex<Vec<(u8, usize, u32)>> = Mutex::new(Vec::new());
static SEVERAL: AtomicBool = AtomicBool::new(false);

/// The calling thread's current context, as the driver says; a context met for the first time is
/// registered.
pub fn current() -> Option<Context> {
    ask().ok().flatten()
}

/// As [`current`], with the driver's error where it gives no answer: a call that cannot know its
/// context must not go on as if there were none.
#[inline]
pub fn ask() -> Result<Option<Context>, CUresult> {
    let api = driver::api().ok_or(code::NOT_INITIALIZED)?;
    let mut handle = std::ptr::null_mut();
    // SAFETY: `handle` is a live local.
    match unsafe { (api.cuCtxGetCurrent)(&mut handle) } {
        code::SUCCESS if handle.is_null() => Ok(None),
        code::SUCCESS => match find(handle as usize) {
            Some(context) => Ok(Some(context)),
            None => register(api, handle),
        },
        failed => Err(failed),
    }
}

/// Whether the calling thread has a context at all, or the driver's error where it does not say.
#[inline]
pub fn is_current() -> Result<bool, CUresult> {
    let api = driver::api().ok_or(code::NOT_INITIALIZED)?;
    let mut handle = std::ptr::null_mut();
    // SAFETY: `handle` is a live local.
    match unsafe { (api.cuCtxGetCurrent)(&mut handle) } {
        code::SUCCESS => Ok(!handle.is_null()),
        failed => Err(failed),
    }
}

/// Brings `FIRST` up to date; under the lock of `LIVE`.
fn mirror(live: &[Context]) {
    for (i, word) in FIRST.iter().enumerate() {
        let fits = |c: &&Context| c.handle & DEVICE == 0 && usize::from(c.device) <= DEVICE;
        let context = live.get(i).filter(fits);
        word.store(context.map_or(0, |c| c.handle | usize::from(c.device)), Ordering::Release);
    }
}

#[cold]
fn register(api: &driver::Api, handle: Handle) -> Result<Option<Context>, CUresult> {
    let mut device = 0;
    // SAFETY: `device` is a live local; the context is current on this thread.
    match unsafe { (api.cuCtxGetDevice)(&mut device) } {
        code::SUCCESS => Ok(u8::try_from(device).ok().and_then(|d| created(handle as usize, d))),
        failed => Err(failed),
    }
}

/// Registers a context.
pub fn created(handle: usize, device: u8) -> Option<Context> {
    let context = Context { handle, device };
    if DOUBTED.lock().contains(&context) {
        return Some(context);
    }
    let mut live = LIVE.write();
    if !live.contains(&context) {
        // A handle that is used again may belong to another device now.
        live.retain(|c| c.handle != handle);
        if !live.is_empty() {
            SEVERAL.store(true, Ordering::Release);
        }
        live.push(context);
        mirror(&live);
    }
    Some(context)
}

/// All registered contexts that have not gone.
pub fn live() -> Vec<Context> {
    LIVE.read().clone()
}

/// The registered context with this handle.
#[inline]
pub fn find(handle: usize) -> Option<Context> {
    for word in &FIRST {
        let word = word.load(Ordering::Acquire);
        if word & !DEVICE == handle && word != 0 {
            return Some(Context { handle, device: (word & DEVICE) as u8 });
        }
    }
    find_any(handle)
}

#[cold]
fn find_any(handle: usize) -> Option<Context> {
    LIVE.read().iter().find(|c| c.handle == handle).copied()
}

/// The context has gone, or is about to and may not be used any more.
pub fn gone(handle: usize) {
    let mut live = LIVE.write();
    live.retain(|c| c.handle != handle);
    mirror(&live);
}

/// Contexts that a call of the program may be ending right now.
static DOUBTED: Mutex<Vec<Context>> = Mutex::new(Vec::new());
/// Contexts that have ended and whose allocations nobody has ended yet.
static LOST: Mutex<Vec<Context>> = Mutex::new(Vec::new());

/// A context that the driver may be ending: a call into one that has ended crashes. So it is not
/// registered meanwhile, and what never says how the call ended leaves it so.
#[derive(Debug)]
#[must_use]
pub struct Doubt(Context);

/// The registered context with this handle is in doubt from here on.
pub fn doubt(handle: usize) -> Option<Doubt> {
    let context = find(handle)?;
    DOUBTED.lock().push(context);
    gone(handle);
    Some(Doubt(context))
}

/// True while a context is in doubt: it may have work that no fence of the others covers.
pub fn in_doubt() -> bool {
    !DOUBTED.lock().is_empty()
}

impl Doubt {
    /// The call has not ended it.
    pub fn lives_on(self) {
        let Context { handle, device } = self.0;
        drop(self);
        created(handle, device);
    }

    /// The call has ended it.
    pub fn ended(self) {
        LOST.lock().push(self.0);
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        DOUBTED.lock().retain(|c| *c != self.0);
    }
}

/// Contexts that have ended since the last time, for whoever ends their allocations.
pub fn take_lost() -> Vec<Context> {
    std::mem::take(&mut *LOST.lock())
}

/// True once two contexts have been seen: then the slot of the legacy stream stands for several
/// streams, whose work one memory can be used by (peer access, copies across devices).
pub fn several() -> bool {
    SEVERAL.load(Ordering::Acquire)
}

/// The primary context of `device` was retained once more.
pub fn primary_retained(device: u8, handle: usize) {
    let mut primary = PRIMARY.lock();
    match primary.iter_mut().find(|p| p.0 == device) {
        Some(known) => *known = (device, handle, known.2 + 1),
        None => primary.push((device, handle, 1)),
    }
}

/// The primary context of `device`, if one more release ends it.
pub fn primary_ending(device: u8) -> Option<usize> {
    PRIMARY.lock().iter().find(|p| p.0 == device && p.2 <= 1).map(|p| p.1)
}

/// The primary context of `device`, however often it is retained.
pub fn primary(device: u8) -> Option<usize> {
    PRIMARY.lock().iter().find(|p| p.0 == device).map(|p| p.1)
}

/// True for the primary context of a device: it is released, never destroyed.
pub fn is_primary(handle: usize) -> bool {
    PRIMARY.lock().iter().any(|p| p.1 == handle)
}

/// One retain of the primary context of `device` was released.
pub fn primary_released(device: u8) {
    let mut primary = PRIMARY.lock();
    primary.iter_mut().filter(|p| p.0 == device).for_each(|p| p.2 = p.2.saturating_sub(1));
    primary.retain(|p| p.2 > 0);
}

/// The primary context of `device` has ended, however often we think that it is retained.
pub fn primary_ended(device: u8) {
    PRIMARY.lock().retain(|p| p.0 != device);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_release_ends_a_primary_context() {
        assert_eq!(primary_ending(77), None);
        primary_retained(77, 0x70);
        assert_eq!(primary_ending(77), Some(0x70));
        primary_retained(77, 0x70);
        assert_eq!((primary_ending(77), primary(77)), (None, Some(0x70)));
        assert!(is_primary(0x70) && !is_primary(0x71));
        primary_released(77);
        assert_eq!(primary_ending(77), Some(0x70));
        primary_released(77);
        assert_eq!(primary(77), None);
    }

    #[test]
    fn a_context_in_doubt_is_not_there() {
        let context = created(0x9000_0000_1230, 72).expect("registered");
        let doubted = doubt(context.handle).expect("it was there");
        assert!(in_doubt() && doubt(context.handle).is_none());
        created(context.handle, 72);
        assert!(!live().contains(&context), "not even where it is current");
        doubted.lives_on();
        assert_eq!(find(context.handle), Some(context));
        drop(doubt(context.handle));
        assert_eq!(find(context.handle), None, "nobody has seen how that ended");
        created(context.handle, 72);
        doubt(context.handle).expect("again").ended();
        assert_eq!(find(context.handle), None);
        assert!(take_lost().contains(&context) && !take_lost().contains(&context));
    }

    #[test]
    fn a_handle_belongs_to_one_device_at_a_time() {
        created(0x8000_0000_1230, 70);
        created(0x8000_0000_1230, 71);
        assert_eq!(find(0x8000_0000_1230).map(|c| c.device), Some(71));
        gone(0x8000_0000_1230);
        assert_eq!(find(0x8000_0000_1230), None);
    }
}
