//! The block table: one entry per block, at addresses that never move.
//!
//! Owns: the hot word every launch reads and the cold part behind a lock. Readers reach an entry
//! only through an id the granule map published, so an entry they see is always initialised.
//! Lock order: device heap lock, then one block's cold lock; never two cold locks.

use super::blob::Blob;
use super::coder::Fit;
use super::state::AtomicWord;
use crate::vmm::Handle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// How many blocks there can be at once.
pub const MAX_BLOCKS: usize = 1 << 20;

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One large allocation.
    Single = 0,
    /// Middle-sized allocations, in order of allocation.
    Shared = 1,
    /// Small ones, of one size class; always resident and always scanned.
    Slab = 2,
}

/// One allocation as the program asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Bytes asked for; 0 marks an unused entry.
    pub size: u64,
    /// The context it belongs to.
    pub ctx: usize,
    /// Unique for the life of the process (the driver's BUFFER_ID).
    pub id: u64,
    /// From a stream-ordered call: its free never waits.
    pub stream_ordered: bool,
    /// Tag of the program, 0 for none.
    pub tag: u32,
    /// Times the program has pinned it.
    pub pins: u32,
}

/// Part of a block that holds no allocation and the streams that may still use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Byte offset in the block.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Use set at the time of the free; 0 when all have passed.
    pub uses: u64,
}

impl Cold {
    /// True where a `Shared` holds nothing: no allocation, and none that is on its way out.
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty() && self.freeing == 0
    }
}

/// A mapped part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First granule, counted from the start of the block.
    pub first: u32,
    /// What backs it.
    pub handle: Handle,
}

/// The part of a block that only slow paths read.
#[derive(Debug, Default)]
pub struct Cold {
    /// The allocation of a `Single`.
    pub single: Allocation,
    /// The allocations of a `Shared`, by offset.
    pub allocations: BTreeMap<u64, Allocation>,
    /// The slots of a `Slab`.
    pub slots: Vec<Allocation>,
    /// Unused slots of a `Slab`, oldest first, with their use sets.
    pub free_slots: std::collections::VecDeque<(u32, u64)>,
    /// Frees of a `Shared` that have begun: the device may still use their ranges.
    pub freeing: u32,
    /// Unused parts of a `Shared` below `bump`.
    pub holes: Vec<Hole>,
    /// First byte never used in a `Shared`.
    pub bump: u64,
    /// Granules claimed for mapping in a `Shared`, in order.
    pub claimed: u32,
    /// Allocations of a `Shared` whose granules are being mapped right now.
    pub growing: u32,
    /// Bytes of one slot of a `Slab`.
    pub slot_bytes: u64,
    /// What is mapped.
    pub extents: Vec<Extent>,
    /// The bytes, while evicted.
    pub blob: Option<Blob>,
    /// How its pages were coded the last time.
    pub fit: Fit,
    /// Set to the last use when coding it gained nothing: until it is used again it stays.
    pub poor: Option<u64>,
}

/// One block. Its size is a power of two: a launch turns ids into addresses with one shift. The
/// hot words share the first cache line.
#[repr(C, align(512))]
#[derive(Debug)]
pub struct Block {
    /// State, pins, generation.
    pub word: AtomicWord,
    /// Stream slots that used it since the last fence, one bit each.
    pub uses: AtomicU64,
    /// Time stamp of the last use.
    pub last_use: AtomicU64,
    /// First address.
    pub base: AtomicU64,
    /// Addresses it covers, in granules, without the guard granule behind it.
    pub granules: AtomicU32,
    device: AtomicU8,
    kind: AtomicU8,
    /// Reasons to stay resident beyond short pins, a bit set of [`reason`].
    pub reasons: AtomicU32,
    /// Everything else.
    pub cold: Mutex<Cold>,
}

/// Why a block stays resident.
pub mod reason {
    /// The program asked (`coldpress_pin`).
    pub const USER: u32 = 1;
}

impl Block {
    fn new() -> Block {
        Block {
            word: AtomicWord::default(),
            uses: AtomicU64::new(0),
            last_use: AtomicU64::new(0),
            base: AtomicU64::new(0),
            granules: AtomicU32::new(0),
            device: AtomicU8::new(0),
            kind: AtomicU8::new(0),
            reasons: AtomicU32::new(0),
            cold: Mutex::new(Cold::default()),
        }
    }

    /// Device that owns it.
    pub fn device(&self) -> u8 {
        self.device.load(Ordering::Relaxed)
    }

    /// What it is made of.
    pub fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Relaxed) {
            0 => Kind::Single,
            1 => Kind::Shared,
            _ => Kind::Slab,
        }
    }

    /// First address.
    pub fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    /// Gives a vacant entry its identity, before the granule map points at it.
    pub fn describe(&self, kind: Kind, device: u8, base: u64, granules: u32) {
        self.kind.store(kind as u8, Ordering::Relaxed);
        self.device.store(device, Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
        self.granules.store(granules, Ordering::Relaxed);
        self.uses.store(0, Ordering::Relaxed);
        self.reasons.store(0, Ordering::Relaxed);
    }

    /// Recomputes the program's own reason to stay from the pins of the allocations.
    pub fn refresh_pins(&self, cold: &Cold) {
        let pinned = cold.single.pins > 0
            || cold.allocations.values().any(|a| a.pins > 0)
            || cold.slots.iter().any(|a| a.pins > 0);
        if pinned {
            self.reasons.fetch_or(reason::USER, Ordering::AcqRel);
        } else {
            self.reasons.fetch_and(!reason::USER, Ordering::AcqRel);
        }
    }

    /// Notes a use by the stream whose one bit `bits` is, at time `now`.
    #[inline]
    pub fn stamp(&self, bits: u64, now: u64) {
        // Most uses repeat: a load is cheaper than a locked write on a shared line.
        if self.uses.load(Ordering::Relaxed) & bits == 0 {
            self.uses.fetch_or(bits, Ordering::Relaxed);
        }
        self.last_use.store(now, Ordering::Relaxed);
    }
}

/// All blocks. Id 0 is never given out.
#[derive(Debug)]
pub struct Table {
    entries: AtomicPtr<Block>,
    ids: Mutex<Ids>,
}

#[derive(Debug)]
struct Ids {
    free: Vec<u32>,
    /// Entries below this are initialised.
    high: u32,
}

/// The process-wide table.
pub static BLOCKS: Table = Table::new();

impl Table {
    const fn new() -> Table {
        Table {
            entries: AtomicPtr::new(std::ptr::null_mut()),
            ids: Mutex::new(Ids { free: Vec::new(), high: 1 }),
        }
    }

    /// Makes the table; once, before the first block.
    pub fn install(&self) -> io::Result<()> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing else.
        let entries = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAX_BLOCKS * size_of::<Block>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if entries == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let entries: *mut Block = entries.cast();
        let nothing = Block::new();
        // Entry 0 stands for "no block here": always resident, so that a launch need not ask
        // whether a word that looks like an address is one.
        let _ = nothing.word.apply(super::state::Event::Create);
        // SAFETY: the mapping has room for it, and nobody reads it before it is published below.
        unsafe { entries.write(nothing) };
        self.entries.store(entries, Ordering::Release);
        Ok(())
    }

    /// A vacant entry's id, or `None` when all are used.
    pub fn allocate(&self) -> Option<u32> {
        let mut ids = self.ids.lock();
        if let Some(id) = ids.free.pop() {
            return Some(id);
        }
        if ids.high as usize >= MAX_BLOCKS {
            return None;
        }
        let id = ids.high;
        // SAFETY: `id` is below MAX_BLOCKS, the mapping is large enough and nobody reads an entry
        // whose id was not given out yet.
        unsafe { self.entries.load(Ordering::Relaxed).add(id as usize).write(Block::new()) };
        ids.high += 1;
        Some(id)
    }

    /// Gives an id back; its word is vacant and no map entry names it.
    pub fn release(&self, id: u32) {
        self.ids.lock().free.push(id);
    }

    /// Ids from 1 to the end of the initialised part; vacant ones among them.
    pub fn ids(&self) -> std::ops::Range<u32> {
        1..self.ids.lock().high
    }

    /// All entries, for a loop of look-ups.
    #[inline]
    pub fn view(&self) -> Entries {
        Entries(self.entries.load(Ordering::Acquire))
    }

    /// The block with an id that was given out.
    #[inline]
    pub fn get(&self, id: u32) -> &'static Block {
        debug_assert!(id != 0 && (id as usize) < MAX_BLOCKS);
        // SAFETY: ids come from `allocate` (directly or through the granule map), which
        // initialised the entry; the mapping is never removed and never moves.
        unsafe { &*self.entries.load(Ordering::Relaxed).add(id as usize) }
    }
}

/// The table's entries, loaded once.
#[derive(Clone, Copy, Debug)]
pub struct Entries(*const Block);

impl Entries {
    /// The entry of an id from the granule map, 0 included.
    ///
    /// # Safety
    /// The granule map has been installed, which happens after this table was.
    #[inline(always)]
    pub unsafe fn get(self, id: u32) -> &'static Block {
        debug_assert!((id as usize) < MAX_BLOCKS);
        // SAFETY: the map holds ids that were given out, or 0; all of these are initialised.
        unsafe { &*self.0.add(id as usize) }
    }
}
