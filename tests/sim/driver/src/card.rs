//! Physical memory of the cards: one memfd each, handed out in pages, and who has how much.
//!
//! The file is many times the card's size so that ranges stay contiguous whatever the order of
//! frees; what counts is the accounting, which several processes may share.

use crate::abi::{Outcome, code};
use crate::settings;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Smallest unit of physical memory.
pub const PAGE: u64 = 4096;
/// Cards at most.
pub const MAX: usize = 8;
const PROCESSES: usize = 64;

/// One card.
#[derive(Debug)]
pub struct Card {
    pub ordinal: usize,
    pub fd: i32,
    free: Mutex<BTreeMap<u64, u64>>,
}

/// What the processes of one group have taken.
#[repr(C)]
#[derive(Debug)]
struct Ledger {
    processes: [Process; PROCESSES],
    peak: [AtomicU64; MAX],
}

#[repr(C)]
#[derive(Debug)]
struct Process {
    pid: AtomicU32,
    used: [AtomicU64; MAX],
}

/// The cards of this process.
pub fn all() -> &'static [Card] {
    static CARDS: OnceLock<Vec<Card>> = OnceLock::new();
    CARDS.get_or_init(|| {
        let settings = settings::get();
        (0..settings.devices).map(|i| Card::new(i, settings.memory)).collect()
    })
}

impl Card {
    fn new(ordinal: usize, memory: u64) -> Card {
        let bytes = (memory * 16).next_multiple_of(PAGE);
        // SAFETY: a new anonymous file; its size is set before anybody maps it.
        let fd = unsafe {
            let fd = libc::memfd_create(c"simcuda".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 || libc::ftruncate(fd, bytes as i64) != 0 {
                eprintln!("simcuda: no memory file for card {ordinal}");
            }
            fd
        };
        Card { ordinal, fd, free: Mutex::new(BTreeMap::from([(0, bytes)])) }
    }

    /// Takes `bytes` (whole pages) of physical memory; the offset in the file.
    pub fn take(&self, bytes: u64) -> Outcome<u64> {
        charge(self.ordinal, bytes)?;
        let mut free = self.free.lock();
        // Next fit from the end of the file's used part: freed offsets come back late.
        let Some((&at, &len)) =
            free.iter().filter(|&(_, &len)| len >= bytes).max_by_key(|&(_, &len)| len)
        else {
            uncharge(self.ordinal, bytes);
            return Err(code::OUT_OF_MEMORY);
        };
        free.remove(&at);
        if len > bytes {
            free.insert(at + bytes, len - bytes);
        }
        Ok(at)
    }

    /// Returns what `take` gave.
    pub fn give_back(&self, at: u64, bytes: u64) {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the range is nobody's any more; a hole reads as zeros.
        unsafe { libc::fallocate(self.fd, PUNCH, at as i64, bytes as i64) };
        let mut free = self.free.lock();
        let (mut at, mut len) = (at, bytes);
        if let Some((&before, &n)) = free.range(..at).next_back()
            && before + n == at
        {
            free.remove(&before);
            at = before;
            len += n;
        }
        if let Some(n) = free.remove(&(at + len)) {
            len += n;
        }
        free.insert(at, len);
        uncharge(self.ordinal, bytes);
    }
}

static LEDGER_FILE: OnceLock<i32> = OnceLock::new();

fn ledger() -> &'static Ledger {
    static LEDGER: OnceLock<usize> = OnceLock::new();
    let at = *LEDGER.get_or_init(|| {
        let fd = *LEDGER_FILE.get_or_init(|| match &settings::get().shared {
            Some(name) => {
                let name = std::ffi::CString::new(format!("/simcuda-{name}")).unwrap_or_default();
                // SAFETY: a file of our own name; zero bytes are a valid ledger.
                unsafe { libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) }
            }
            // SAFETY: a new anonymous file.
            None => unsafe { libc::memfd_create(c"simcuda-ledger".as_ptr(), libc::MFD_CLOEXEC) },
        });
        let bytes = size_of::<Ledger>();
        // SAFETY: the file is made large enough before it is mapped; the mapping stays for ever.
        unsafe {
            if fd < 0 || libc::ftruncate(fd, bytes as i64) != 0 {
                eprintln!("simcuda: no ledger");
            }
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), bytes, prot, libc::MAP_SHARED, fd, 0) as usize
        }
    });
    // SAFETY: mapped above with the right size and alignment; only atomics inside.
    unsafe { &*(at as *const Ledger) }
}

/// This process's line. Lines of dead processes are cleared, so what they had is free again.
fn mine() -> &'static Process {
    static MINE: OnceLock<usize> = OnceLock::new();
    let ledger = ledger();
    let i = *MINE.get_or_init(|| {
        let _alone = between_processes();
        let pid = std::process::id();
        // Of a group that has ended nothing counts any more.
        if sweep() == 0 {
            ledger.peak.iter().for_each(|p| p.store(0, Ordering::Release));
        }
        let free = |p: &Process| {
            p.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        ledger.processes.iter().position(free).unwrap_or_else(|| {
            eprintln!("simcuda: more than {PROCESSES} processes share the cards");
            PROCESSES - 1
        })
    });
    &ledger.processes[i]
}

/// Clears the lines of processes that have ended; how many are left.
fn sweep() -> usize {
    let mut alive = 0;
    for process in &ledger().processes {
        let pid = process.pid.load(Ordering::Acquire);
        if pid == 0 {
            continue;
        }
        // SAFETY: signal 0 only asks whether the process exists; another user's does too.
        let asked = unsafe { libc::kill(pid as i32, 0) };
        if asked == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
            alive += 1;
        } else {
            process.used.iter().for_each(|u| u.store(0, Ordering::Release));
            process.pid.store(0, Ordering::Release);
        }
    }
    alive
}

/// One process of the group at a time, while the value lives; an end of the process frees it.
struct Alone(i32);

fn between_processes() -> Option<Alone> {
    settings::get().shared.as_ref()?;
    let fd = *LEDGER_FILE.get()?;
    // SAFETY: locks a file of ours.
    unsafe { libc::flock(fd, libc::LOCK_EX) };
    Some(Alone(fd))
}

impl Drop for Alone {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::flock(self.0, libc::LOCK_UN) };
    }
}

fn total(card: usize) -> u64 {
    ledger().processes.iter().map(|p| p.used[card].load(Ordering::Acquire)).sum()
}

/// Serialises charging between threads.
static CHARGE: Mutex<()> = Mutex::new(());

fn charge(card: usize, bytes: u64) -> Outcome {
    if bytes > settings::get().budget {
        return Err(code::OUT_OF_MEMORY);
    }
    let mine = mine();
    let _turn = CHARGE.lock();
    let _alone = between_processes();
    mine.used[card].fetch_add(bytes, Ordering::AcqRel);
    let mut now = total(card);
    if now > settings::get().budget && settings::get().shared.is_some() {
        sweep();
        now = total(card);
    }
    if now > settings::get().budget {
        mine.used[card].fetch_sub(bytes, Ordering::AcqRel);
        return Err(code::OUT_OF_MEMORY);
    }
    ledger().peak[card].fetch_max(now, Ordering::AcqRel);
    Ok(())
}

fn uncharge(card: usize, bytes: u64) {
    mine().used[card].fetch_sub(bytes, Ordering::AcqRel);
}

/// Bytes taken on a card, by all processes that share it.
pub fn used(card: usize) -> u64 {
    if card >= MAX {
        return 0;
    }
    if settings::get().shared.is_some() {
        sweep();
    }
    total(card)
}

/// Bytes taken by this process alone.
pub fn used_here(card: usize) -> u64 {
    if card < MAX { mine().used[card].load(Ordering::Acquire) } else { 0 }
}

/// Most bytes ever taken on a card.
pub fn peak(card: usize) -> u64 {
    if card >= MAX {
        return 0;
    }
    // Joins the group first: the mark of one that has ended is not this one's.
    mine();
    ledger().peak[card].load(Ordering::Acquire)
}

/// Starts the high-water mark anew.
pub fn reset_peak(card: usize) {
    if card < MAX {
        ledger().peak[card].store(total(card), Ordering::Release);
    }
}
