//! The layout of a statistics page. Readers are other programs, perhaps of another version:
//! whoever changes a field changes [`VERSION`].

use super::cell::{Counter, Histogram, Text};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The first word of a page: `coldprss`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"coldprss");
/// Of the layout below.
pub const VERSION: u64 = 3;
/// Devices a page has room for.
pub const DEVICES: usize = 16;
/// Reasons to pin a page has room for.
pub const REASONS: usize = 16;
/// Modes of the codec that pages are counted by.
pub const MODES: usize = 5;

/// What a user can ask of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Restore everything and evict no more.
    Off,
    /// Evict again.
    On,
}

/// A command and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Grows with every request to the process.
    pub number: u64,
    /// What is asked.
    pub command: Command,
}

macro_rules! page {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $ty:ty = $new:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)* }

        impl $name {
            pub(super) const fn new() -> Self {
                $name { $($field: $new,)* }
            }
        }
    };
}

page! {
    /// One card. All gauges, in bytes.
    DevicePage {
        /// Its name.
        name: Text<8> = Text::new(),
        /// Physical memory of the card.
        card: Counter = Counter::new(),
        /// What may be charged.
        limit: Counter = Counter::new(),
        /// What is charged.
        charged: Counter = Counter::new(),
        /// The highest `charged`.
        peak: Counter = Counter::new(),
        /// In allocations whose bytes are on the device.
        resident: Counter = Counter::new(),
        /// In allocations kept compressed on the device.
        compressed: Counter = Counter::new(),
        /// In allocations kept in host memory.
        spilled: Counter = Counter::new(),
        /// Of the card, held by the store of compressed pages.
        store: Counter = Counter::new(),
        /// Of these, bytes that hold something.
        store_used: Counter = Counter::new(),
        /// In handles ready for use.
        pooled: Counter = Counter::new(),
        /// In freed memory that waits for a stream.
        limbo: Counter = Counter::new(),
        /// In slabs of small allocations.
        slabs: Counter = Counter::new(),
        /// Pinned, by reason; the names are in [`Page::reasons`].
        pinned: [Counter; REASONS] = [const { Counter::new() }; REASONS],
    }
}

page! {
    /// Everything a process says about itself.
    Page {
        /// [`MAGIC`].
        magic: Counter = Counter::new(),
        /// [`VERSION`].
        version: Counter = Counter::new(),
        /// Bytes of the page.
        size: Counter = Counter::new(),
        /// The process.
        pid: Counter = Counter::new(),
        /// When it started, in clock ticks since boot: a reused pid has another.
        pid_start: Counter = Counter::new(),
        /// When CUDA was initialised, on the monotonic clock, in nanoseconds.
        opened_ns: Counter = Counter::new(),
        /// Highest version of CUDA the driver speaks, as the driver writes it (13000).
        cuda_version: Counter = Counter::new(),
        /// Devices in use below.
        device_count: Counter = Counter::new(),
        /// Operations seen. Every launch of every thread writes it, so it has a cache line of its
        /// own: eight words stand before it and seven follow.
        launches: Counter = Counter::new(),
        /// See `launches`.
        apart: [Counter; 7] = [const { Counter::new() }; 7],
        /// Command line.
        command_line: Text<32> = Text::new(),
        /// `mode` option.
        mode: Text<2> = Text::new(),
        /// Version of the driver.
        driver: Text<4> = Text::new(),
        /// Version of this library.
        library: Text<4> = Text::new(),
        /// Why nothing is managed, if so.
        passthrough: Text<24> = Text::new(),
        /// Why nothing is evicted, if so.
        eviction_off: Text<24> = Text::new(),
        /// Set while the user keeps eviction off.
        user_off: Counter = Counter::new(),
        /// The newest request: number and command.
        request: Counter = Counter::new(),
        /// The newest request answered: number and 1 for done, 2 for refused.
        answer: Counter = Counter::new(),

        /// Allocations made.
        allocations: Counter = Counter::new(),
        /// Allocations freed.
        frees: Counter = Counter::new(),
        /// Bytes of live allocations, as the program asked for them.
        logical: Counter = Counter::new(),
        /// Allocations that failed for lack of memory.
        oom_returned: Counter = Counter::new(),
        /// Allocations that would have failed and did not.
        oom_avoided: Counter = Counter::new(),
        /// Operations that passed the limit.
        over_limit_launches: Counter = Counter::new(),
        /// Handles made into others of another size.
        pool_converted: Counter = Counter::new(),
        /// Blocks evicted.
        evictions: Counter = Counter::new(),
        /// Bytes evicted.
        evicted_bytes: Counter = Counter::new(),
        /// Time spent evicting.
        eviction_ns: Counter = Counter::new(),
        /// Blocks restored.
        restores: Counter = Counter::new(),
        /// Bytes restored.
        restored_bytes: Counter = Counter::new(),
        /// Bytes whose hash was checked.
        bytes_verified: Counter = Counter::new(),
        /// Copies that failed the check.
        verify_failures: Counter = Counter::new(),
        /// Of those, at an eviction: the original stayed.
        evict_mismatches: Counter = Counter::new(),
        /// Transfers that failed the check and were right the second time.
        verify_repaired: Counter = Counter::new(),
        /// Blocks that could not be restored.
        poisoned: Counter = Counter::new(),
        /// Pages coded, by mode; see [`MODES`].
        coded_pages: [Counter; MODES] = [const { Counter::new() }; MODES],
        /// Bytes that were coded.
        coded_bytes: Counter = Counter::new(),
        /// Bytes that came of them.
        stored_bytes: Counter = Counter::new(),
        /// Segments of a store that were emptied by moving what they held.
        store_compactions: Counter = Counter::new(),
        /// Scans for addresses.
        scans: Counter = Counter::new(),
        /// Time spent scanning.
        scan_ns: Counter = Counter::new(),
        /// Bytes scanned.
        scan_bytes: Counter = Counter::new(),
        /// Victims let go because memory names them.
        refused_scan_hit: Counter = Counter::new(),
        /// Attempts given up because the device stayed busy.
        refused_fence_timeout: Counter = Counter::new(),
        /// Attempts given up for lack of host memory.
        refused_no_host_memory: Counter = Counter::new(),
        /// Attempts that found nothing to evict.
        refused_nothing_cold: Counter = Counter::new(),
        /// Host bytes held for evicted memory.
        host_bytes: Counter = Counter::new(),
        /// Of these, bytes that hold something.
        host_used: Counter = Counter::new(),
        /// What may be held.
        host_limit: Counter = Counter::new(),
        /// Time a restore took.
        restore_latency: Histogram = Histogram::new(),
        /// Time operations waited for restores.
        launch_waits: Histogram = Histogram::new(),
        /// Names of the reasons to pin.
        reasons: [Text<4>; REASONS] = [const { Text::new() }; REASONS],
        /// The cards.
        devices: [DevicePage; DEVICES] = [const { DevicePage::new() }; DEVICES],
    }
}

/// A counter's name and where it is on a page.
pub type Named = (&'static str, fn(&Page) -> &Counter);

macro_rules! counters {
    ($($name:ident)*) => {
        /// What only grows, by name, in the order in which it is shown.
        pub const COUNTERS: &[Named] = &[
            $((stringify!($name), |page| &page.$name),)*
            ("pages_zero", |page| &page.coded_pages[0]),
            ("pages_const", |page| &page.coded_pages[1]),
            ("pages_raw", |page| &page.coded_pages[2]),
            ("pages_fields", |page| &page.coded_pages[3]),
            ("pages_ints", |page| &page.coded_pages[4]),
        ];
    };
}

counters! {
    allocations frees launches oom_returned oom_avoided over_limit_launches pool_converted
    evictions evicted_bytes eviction_ns restores restored_bytes bytes_verified verify_failures
    evict_mismatches verify_repaired poisoned scans scan_ns scan_bytes refused_scan_hit refused_fence_timeout
    refused_no_host_memory refused_nothing_cold coded_bytes stored_bytes store_compactions
}

impl Page {
    /// An operation waited for a restore.
    pub fn waited(&self, time: Duration) {
        self.launch_waits.record(time);
    }

    /// Says why nothing is managed; the first reason stays.
    pub fn set_passthrough(&self, why: &str) {
        self.passthrough.set(why);
    }

    /// Says why nothing is evicted; the first reason stays.
    pub fn set_eviction_off(&self, why: &str) {
        self.eviction_off.set(why);
    }

    /// Writes down which cards there are, by name and size.
    pub fn introduce<'a>(&self, cards: impl Iterator<Item = (&'a str, u64)>) {
        for (device, (name, bytes)) in self.devices.iter().zip(cards) {
            device.name.set(name);
            device.card.set(bytes);
            self.device_count.add(1);
        }
    }

    /// The devices in use.
    pub fn used_devices(&self) -> &[DevicePage] {
        &self.devices[..(self.device_count.get() as usize).min(DEVICES)]
    }

    /// The request that waits for an answer, for the thread that serves them.
    pub fn control_request(&self) -> Option<Request> {
        let request = self.request.word().load(Ordering::Acquire);
        let number = request >> 8;
        if number <= self.answer.get() >> 8 {
            return None;
        }
        let command = if request & 0xFF == 1 { Command::Off } else { Command::On };
        Some(Request { number, command })
    }

    /// Answers request `number` and all before it.
    pub fn control_ack(&self, number: u64, done: bool) {
        let word = number << 8 | if done { 1 } else { 2 };
        self.answer.word().store(word, Ordering::Release);
    }

    /// Leaves a request; its number.
    pub fn ask(&self, command: Command) -> u64 {
        let code = match command {
            Command::Off => 1,
            Command::On => 2,
        };
        let next = |now: u64| (now >> 8) + 1;
        let word = self.request.word();
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let new = next(now) << 8 | code;
            match word.compare_exchange_weak(now, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return next(now),
                Err(other) => now = other,
            }
        }
    }

    /// The answer to request `number`, once there is one: was it done?
    pub fn answered(&self, number: u64) -> Option<bool> {
        let answer = self.answer.word().load(Ordering::Acquire);
        (answer >> 8 >= number).then_some(answer & 0xFF == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_introduced() {
        let page = Page::new();
        page.introduce([("one", 1), ("two", 2)].into_iter().cycle().take(DEVICES + 3));
        assert_eq!(page.used_devices().len(), DEVICES, "what does not fit is left out");
        assert_eq!(page.devices[1].name.get().as_deref(), Some("two"));
    }

    #[test]
    fn launches_have_a_cache_line() {
        assert_eq!(std::mem::offset_of!(Page, launches), 64);
        assert_eq!(std::mem::offset_of!(Page, command_line), 128);
    }

    #[test]
    fn a_request_is_served_once() {
        let page = Page::new();
        assert_eq!(page.control_request(), None);
        let off = page.ask(Command::Off);
        assert_eq!(page.answered(off), None);
        assert_eq!(page.control_request(), Some(Request { number: off, command: Command::Off }));
        page.control_ack(off, true);
        assert_eq!(page.control_request(), None);
        assert_eq!(page.answered(off), Some(true));
        let on = page.ask(Command::On);
        assert_eq!(page.control_request(), Some(Request { number: on, command: Command::On }));
        page.control_ack(on, false);
        assert_eq!(page.answered(on), Some(false));
    }

    #[test]
    fn a_newer_request_answers_the_older() {
        let page = Page::new();
        let first = page.ask(Command::Off);
        let second = page.ask(Command::On);
        page.control_ack(second, true);
        assert_eq!(page.answered(first), Some(true));
    }
}
