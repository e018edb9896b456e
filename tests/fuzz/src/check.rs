//! What a random program checks: contents, counts, and that its end leaves nothing.

use crate::coldpress::Report;
use crate::program::Program;
use cuda_client::{Code, Driver};

/// An allocation found no memory. Not a failure: limits are tight.
pub const OUT_OF_MEMORY: Code = Code(2);

/// Why a step failed.
#[derive(Debug)]
pub enum Trouble {
    /// The driver refused something that must work.
    Driver(Code),
    /// Something is not as the model says.
    Wrong(String),
}

impl From<Code> for Trouble {
    fn from(code: Code) -> Trouble {
        Trouble::Driver(code)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Driver(code) => write!(f, "the driver says {code}"),
            Trouble::Wrong(what) => f.write_str(what),
        }
    }
}

/// Of a step.
pub type Result = std::result::Result<(), Trouble>;

/// Pinned host memory for asynchronous copies: one slot a copy, checked at the next full wait.
pub struct Pinned {
    /// Its address.
    pub at: *mut u32,
    /// Its length.
    pub words: usize,
    /// Words given out.
    pub used: usize,
    /// Slots and what must arrive there.
    pub expected: Vec<(usize, Vec<u32>)>,
}

impl Pinned {
    /// Allocates it.
    pub fn new(driver: &Driver, words: usize) -> std::result::Result<Pinned, Code> {
        let at = driver.host_alloc(words * 4, 0)?.cast();
        Ok(Pinned { at, words, used: 0, expected: Vec::new() })
    }
}

/// The first difference, told.
fn differs(place: &str, got: &[u32], want: &[u32]) -> Option<Trouble> {
    let w = got.iter().zip(want).position(|(a, b)| a != b)?;
    let bad = got.iter().zip(want).filter(|(a, b)| a != b).count();
    Some(Trouble::Wrong(format!(
        "{place}: word {w} is {:#x}, must be {:#x}; {bad} of {} words differ",
        got[w],
        want[w],
        want.len()
    )))
}

impl Program {
    /// Reads a buffer back and compares it.
    pub(crate) fn compare(&mut self, i: usize) -> Result {
        self.machine.settle(&self.buffers[i])?;
        let buffer = &self.buffers[i];
        let got: Vec<u32> = self.machine.driver.read(buffer.at, buffer.model.len())?;
        self.outcome.compared += 1;
        let place = format!("buffer at {:#x}", buffer.at);
        differs(&place, &got, &buffer.model).map_or(Ok(()), Err)
    }

    /// Waits for everything, then looks at what asynchronous copies brought.
    pub(crate) fn check_pinned(&mut self) -> Result {
        self.machine.synchronize()?;
        let expected = std::mem::take(&mut self.pinned.expected);
        self.pinned.used = 0;
        for (slot, want) in expected {
            // SAFETY: inside the pinned allocation, and every copy into it has ended.
            let got = unsafe { std::slice::from_raw_parts(self.pinned.at.add(slot), want.len()) };
            self.outcome.compared += 1;
            if let Some(trouble) = differs("asynchronous copy", got, &want) {
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// After every step: nothing faulted, coldpress counts what the model counts, and the
    /// simulator never saw more than the limit, unless coldpress says that it had to pass it.
    pub fn check_counts(&mut self) -> std::result::Result<(), String> {
        if self.extras.faults() > 0 {
            return Err("device work met an unmapped page".into());
        }
        let cards = 0..self.options.devices;
        let peak = cards.clone().filter_map(|card| self.extras.peak(card)).max().unwrap_or(0);
        self.outcome.peak = peak;
        // A library that manages nothing leaves everything to the driver; one that has panicked, what
        // is new.
        let counts = |stats: &Report| {
            stats.devices > 0 && !(self.machine.patient && stats.eviction_off != 0)
        };
        let stats = self.extras.stats().filter(counts);
        if let Some(stats) = stats {
            self.outcome.evictions = stats.evictions - self.before.evictions;
            self.outcome.restores = stats.restores - self.before.restores;
            self.outcome.over_limit = stats.over_limit - self.before.over_limit;
            let live: u64 = self.buffers.iter().map(|b| b.logical).sum();
            if stats.logical_bytes != live {
                let counted = stats.logical_bytes;
                return Err(format!("coldpress counts {counted} live bytes, the model {live}"));
            }
            if stats.verify_failures > 0 {
                return Err(format!("{} copies failed their check", stats.verify_failures));
            }
            let (charged, limit) = (stats.charged_bytes, stats.limit_bytes);
            // Of several cards only the sums are known: one may still be above from before.
            let since = if self.options.devices == 1 { &self.last } else { &self.before };
            let counted = stats.over_limit > since.over_limit;
            if charged > limit && charged > self.last.charged_bytes && !counted {
                return Err(format!("{charged} bytes are charged of {limit}, and nobody says why"));
            }
            self.last = stats;
            if let Some(before) = self.off.filter(|before| stats.evictions > *before) {
                let more = stats.evictions - before;
                return Err(format!("{more} blocks were evicted while the user keeps that off"));
            }
            // Two clocks: the background thread may bring something back between the two looks.
            let used = || cards.clone().filter_map(|card| self.extras.used(card)).sum::<u64>();
            let now = || self.extras.stats().map_or(charged, |stats| stats.charged_bytes);
            if used() > charged && (0..50).all(|_| used() > now()) {
                let (used, charged) = (used(), now());
                return Err(format!("{used} bytes are in use, coldpress charges {charged}"));
            }
        }
        match self.options.limit {
            Some(limit) if stats.is_some() && peak > limit && self.outcome.over_limit == 0 => {
                Err(format!("peak {peak} is above the limit {limit}"))
            }
            _ => Ok(()),
        }
    }

    /// A patient program looks once more where the driver refused.
    fn twice(&mut self, mut look: impl FnMut(&mut Self) -> Result) -> Result {
        match look(self) {
            Err(Trouble::Driver(_)) if self.machine.patient => {
                self.machine.refusals.set(self.machine.refusals.get() + 1);
                look(self)
            }
            result => result,
        }
    }

    /// After the last step: everything is what it must be.
    pub fn finish(&mut self) -> std::result::Result<(), String> {
        self.twice(Self::check_pinned).map_err(|e| e.to_string())?;
        for i in 0..self.buffers.len() {
            self.twice(|program| program.compare(i)).map_err(|e| format!("at the end, {e}"))?;
        }
        self.check_counts()
    }

    /// Frees and destroys everything it made.
    pub fn end(mut self) -> Result {
        if self.off.is_some() {
            self.switch()?;
        }
        for _ in 0..self.tags {
            self.extras.tag_pop();
        }
        for card in 0..self.shares.len() {
            self.extras.torch_fraction(1.0, card as i32);
        }
        self.twice(|program| Ok(program.machine.synchronize()?))?;
        self.twice(|program| Ok(program.machine.enter(0)?))?;
        let lane = self.machine.lanes[0];
        while !self.buffers.is_empty() {
            let mut buffer = self.remove(0);
            self.twice(|program| program.free_buffer(&mut buffer, lane, false))?;
        }
        for at in [self.host_tables.cast(), self.pinned.at.cast()] {
            // SAFETY: both allocated by `host_alloc`; nothing uses them any more.
            self.machine.again(|driver| unsafe { driver.host_free(at) })?;
        }
        self.machine.end()?;
        Ok(())
    }
}
