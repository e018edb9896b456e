//! The engine's process-wide state: devices, sizes, switches.
//!
//! Owns: what is decided once (heap, granule, thresholds) and the switches every path reads.
//! Locks: `Device::heap` (never held across a driver call) and the ticket (`ticket.rs`).

use super::block::BLOCKS;
use crate::config::{self, Mode};
use crate::driver::{self, CUresult, code};
use crate::heap::{self, MAP, RangeAllocator};
use crate::registry::contexts::Context;
use crate::vmm::{self, Pool};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

static TORTURE: AtomicBool = AtomicBool::new(false);

/// True where everything that can be is evicted after every operation.
#[inline]
pub fn torture() -> bool {
    TORTURE.load(Ordering::Relaxed)
}

/// At most so many devices are managed; more are passed through.
pub const MAX_DEVICES: usize = 16;

const MIB: u64 = 1 << 20;

/// Where allocation kinds end, in bytes. On a card of ordinary size: slabs below 1 MiB, shared
/// blocks of 64 MiB up to 16 MiB, single blocks above. A small limit shrinks them, or one block
/// would be most of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a granule.
    pub granule: u64,
    /// Allocations below go to slabs.
    pub slab_below: u64,
    /// Allocations from here on are blocks of their own.
    pub single_from: u64,
    /// Capacity of a shared block.
    pub shared: u64,
    /// Capacity of a slab.
    pub slab: u64,
}

impl Sizes {
    /// Sizes for a card (or limit) of `capacity` bytes.
    pub fn new(capacity: u64, granule: u64) -> Sizes {
        let whole = |bytes: u64| bytes.next_multiple_of(granule);
        let shared = whole((capacity / 32).clamp(4 * granule.min(MIB), 64 * MIB));
        let single_from = (shared / 4).clamp(granule.min(MIB), 16 * MIB);
        let slab_below = (shared / 64).clamp(512, MIB).min(single_from);
        Sizes { granule, slab_below, single_from, shared, slab: whole(slab_below * 4) }
    }
}

/// One card.
#[derive(Debug)]
pub struct Device {
    /// CUDA ordinal.
    pub ordinal: u8,
    /// First granule of its slice of the heap.
    pub first_granule: u64,
    /// Physical memory of the card.
    pub card: u64,
    /// What may be charged on it.
    pub limit: u64,
    /// Thresholds.
    pub sizes: Sizes,
    /// Devices that may access its memory, itself included.
    pub access: AtomicU32,
    /// Bytes held: mapped, pooled, limbo, slabs.
    pub charged: AtomicU64,
    /// Highest `charged`.
    pub peak: AtomicU64,
    /// Bytes that new allocations leave, so that evicted blocks can change places.
    pub reserve: AtomicU64,
    /// After a wait for freed memory that came to nothing: so much of it is let be.
    pub grace: AtomicU64,
    /// The context that was last seen to have the library's kernels; 0 for none.
    pub equipped: AtomicUsize,
    /// Set at the first shortage: from then on freed memory is kept ready.
    pub pressed: AtomicBool,
    /// The block freed last, if it is kept ready outside the lists: programs often ask for the
    /// same size next, and this needs no lock. 0 for none.
    pub spare: AtomicU32,
    /// Address space and free lists.
    pub heap: Mutex<Heap>,
}

/// Address space and free lists of one device.
#[derive(Debug)]
pub struct Heap {
    /// Free granules of the slice.
    pub addresses: RangeAllocator,
    /// Ready handles.
    pub pool: Pool,
    /// Freed single blocks that are still mapped, by granules.
    pub warm: BTreeMap<u32, Vec<u32>>,
    /// Granules in `warm`.
    pub warm_granules: u64,
    /// Shared blocks being filled, by stream slot.
    pub open: HashMap<u8, u32>,
    /// Shared blocks that have holes or room.
    pub shared: Vec<u32>,
    /// Slabs with free slots, by slot size.
    pub slabs: BTreeMap<u64, Vec<u32>>,
    /// Freed blocks whose mapping must go; done by the next holder of the ticket.
    pub condemned: Vec<u32>,
    /// Blocks the program has freed while they were away and the ticket was long taken; done by
    /// its next holder.
    pub abandoned: Vec<u32>,
}

impl Device {
    /// Granules for `bytes`.
    pub fn granules(&self, bytes: u64) -> u32 {
        bytes.div_ceil(self.sizes.granule) as u32
    }

    /// Charges `bytes`; false when the limit would be passed and `exceed` is not set.
    pub fn charge(&self, bytes: u64, exceed: bool) -> bool {
        let limit = if exceed { u64::MAX } else { self.limit };
        let charged = self.charged.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            now.checked_add(bytes).filter(|&sum| sum <= limit)
        });
        match charged {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes a charge back.
    pub fn uncharge(&self, bytes: u64) {
        let before = self.charged.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "charged {before}, giving back {bytes}");
    }

    /// Bytes of freed memory kept ready before the first shortage.
    pub fn warm_cap(&self) -> u64 {
        if self.pressed.load(Ordering::Relaxed) { u64::MAX } else { self.slack() }
    }

    /// What a program may hold too much before anything is done about it.
    pub fn slack(&self) -> u64 {
        (64 * MIB).min(self.limit / 8)
    }

    /// Bytes of freed memory that may wait for streams; `used` is what the program holds.
    pub fn cache(&self, used: u64) -> u64 {
        self.slack() + used / 4
    }
}

/// What exists once there is a heap.
#[derive(Debug)]
pub struct Engine {
    /// Managed devices by ordinal.
    pub devices: Vec<Device>,
    /// log2 of the granule.
    pub shift: u32,
}

static ENGINE: OnceLock<Result<Engine, &'static str>> = OnceLock::new();
static LATCHED: AtomicBool = AtomicBool::new(false);
static USER_OFF: AtomicBool = AtomicBool::new(false);
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Blocks whose bytes are away from the device.
pub static EVICTED: AtomicU64 = AtomicU64::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number no other allocation of the process has.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The engine, if the first managed allocation made it.
#[inline]
pub fn get() -> Option<&'static Engine> {
    match ENGINE.get() {
        Some(Ok(engine)) => Some(engine),
        _ => None,
    }
}

/// All managed devices; none before the engine exists.
pub fn devices() -> &'static [Device] {
    get().map_or(&[], |engine| &engine.devices)
}

/// The device of a context, making the engine on first use; `None` means pass through.
pub fn device_for(context: Context) -> Option<&'static Device> {
    let engine = match ENGINE.get_or_init(build) {
        Ok(engine) => engine,
        Err(_) => return None,
    };
    engine.devices.get(usize::from(context.device))
}

/// The device that owns an address of the heap.
pub fn device_of(ordinal: u8) -> Option<&'static Device> {
    get()?.devices.get(usize::from(ordinal))
}

/// Evictions held off for the moment, by any number of holders.
static HOLDS: AtomicU32 = AtomicU32::new(0);

/// Nothing is chosen as a victim while this lives.
#[derive(Debug)]
pub struct Hold(());

/// Holds evictions off.
pub fn hold_evictions() -> Hold {
    HOLDS.fetch_add(1, Ordering::SeqCst);
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        HOLDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// True while blocks may be chosen as victims.
pub fn armed() -> bool {
    !LATCHED.load(Ordering::SeqCst)
        && HOLDS.load(Ordering::SeqCst) == 0
        && !USER_OFF.load(Ordering::SeqCst)
        && !frozen()
}

/// True after a panic in a hook or a fork: nothing new is managed and nothing is evicted.
pub fn frozen() -> bool {
    FROZEN.load(Ordering::SeqCst)
}

/// Stops managing anything new; says whether this call was the first.
pub fn freeze() -> bool {
    !FROZEN.swap(true, Ordering::SeqCst)
}

/// True when an entry point we cannot follow has been called.
pub fn latched() -> bool {
    LATCHED.load(Ordering::SeqCst)
}

/// Turns eviction off for good; says whether this call was the first.
pub fn set_latched() -> bool {
    !LATCHED.swap(true, Ordering::SeqCst)
}

/// Turns eviction off or on at the user's word.
pub fn set_user_off(off: bool) {
    USER_OFF.store(off, Ordering::SeqCst);
}

fn attribute(device: u8, what: i32) -> Result<i32, CUresult> {
    let api = driver::api().ok_or(code::NOT_INITIALIZED)?;
    let mut value = 0;
    // SAFETY: `value` is a live local.
    match unsafe { (api.cuDeviceGetAttribute)(&mut value, what, i32::from(device)) } {
        code::SUCCESS => Ok(value),
        e => Err(e),
    }
}

/// CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
const ATTRIBUTE_VMM: i32 = 102;

fn build() -> Result<Engine, &'static str> {
    let engine = try_build();
    if let Err(why) = &engine {
        crate::stats::page().set_passthrough(why);
        crate::say::once("passthrough", &format!("managing nothing: {why}"));
    } else {
        super::control::start_manager();
    }
    engine
}

fn try_build() -> Result<Engine, &'static str> {
    let config = config::get();
    if config.mode == Mode::Trace {
        return Err("mode:trace leaves allocations with the driver");
    }
    if !config.mps && std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").is_some() {
        set_latched();
        crate::stats::page().set_eviction_off("MPS (mps:on allows it)");
    }
    TORTURE.store(config.torture, Ordering::Relaxed);
    let api = driver::api().ok_or("no driver")?;
    let mut count = 0;
    // SAFETY: `count` is a live local.
    if unsafe { (api.cuDeviceGetCount)(&mut count) } != code::SUCCESS || count < 1 {
        return Err("no device");
    }
    let count = (count as usize).min(MAX_DEVICES);
    let mut cards = Vec::with_capacity(count);
    let mut granule = 4096u64;
    for device in 0..count as u8 {
        if attribute(device, ATTRIBUTE_VMM) != Ok(1) {
            return Err("the device has no virtual memory management");
        }
        let device_granule = vmm::granularity(device).map_err(|_| "granularity unknown")?;
        granule = granule.max(device_granule as u64);
        let mut total = 0usize;
        // SAFETY: `total` is a live local.
        if unsafe { (api.cuDeviceTotalMem_v2)(&mut total, i32::from(device)) } != code::SUCCESS {
            return Err("device memory unknown");
        }
        cards.push(total as u64);
    }
    let largest = cards.iter().copied().max().unwrap_or(0);
    if !super::ticket::prepare() {
        return Err("no host memory to work with");
    }
    let (base, slice) = reserve(largest, count as u64, granule)?;
    BLOCKS.install().map_err(|_| "no room for the block table")?;
    let shift = granule.trailing_zeros();
    MAP.install(base, slice * count as u64, shift).map_err(|_| "no room for the granule map")?;
    let devices = cards
        .into_iter()
        .enumerate()
        .map(|(i, card)| {
            let limit = config.limit_for(card).min(card) / granule * granule;
            Device {
                ordinal: i as u8,
                first_granule: (slice * i as u64) >> shift,
                card,
                limit,
                sizes: Sizes::new(limit, granule),
                access: AtomicU32::new(1 << i),
                charged: AtomicU64::new(0),
                peak: AtomicU64::new(0),
                reserve: AtomicU64::new(0),
                grace: AtomicU64::new(0),
                equipped: AtomicUsize::new(0),
                pressed: AtomicBool::new(false),
                spare: AtomicU32::new(0),
                heap: Mutex::new(Heap {
                    addresses: RangeAllocator::new(slice >> shift),
                    pool: Pool::default(),
                    warm: BTreeMap::new(),
                    warm_granules: 0,
                    open: HashMap::new(),
                    shared: Vec::new(),
                    slabs: BTreeMap::new(),
                    condemned: Vec::new(),
                    abandoned: Vec::new(),
                }),
            }
        })
        .collect();
    Ok(Engine { devices, shift })
}

/// One range for all devices: 8 times the largest card each, halved until the system agrees.
fn reserve(card: u64, devices: u64, granule: u64) -> Result<(u64, u64), &'static str> {
    let mut slice = (card * 8).next_power_of_two().max(granule * 64).min(1 << 40);
    while slice >= card && slice >= granule {
        let bytes = (slice * devices) as usize;
        if let Ok(base) = vmm::reserve(bytes, granule as usize, heap::HINT) {
            return Ok((base, slice));
        }
        slice /= 2;
    }
    Err("the driver reserves no addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_a_large_card_are_the_designs() {
        let s = Sizes::new(141 << 30, 2 * MIB);
        assert_eq!(s.shared, 64 * MIB);
        assert_eq!(s.single_from, 16 * MIB);
        assert_eq!(s.slab_below, MIB);
    }

    #[test]
    fn sizes_stay_ordered_at_every_scale() {
        for granule in [4096, 65536, 2 * MIB] {
            for capacity in [MIB, 4 * MIB, 100 * MIB, 1 << 30, 1 << 40] {
                let s = Sizes::new(capacity, granule);
                assert!(s.slab_below <= s.single_from && s.single_from <= s.shared, "{s:?}");
                assert!(
                    s.shared.is_multiple_of(granule) && s.slab.is_multiple_of(granule),
                    "{s:?}"
                );
                assert!(s.slab >= s.slab_below);
            }
        }
    }
}
