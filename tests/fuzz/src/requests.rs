//! The steps that ask coldpress for something, and those that change what everything is in:
//! streams, waits, contexts.

use crate::check::{Result, Trouble};
use crate::coldpress::{What, status};
use crate::machine::Made;
use crate::program::{Place, Program, TAGS};
use cuda_client::Code;

/// Buffers that a program keeps pinned at once.
const MOST_PINNED: usize = 3;
/// Tags on the stack at most.
const MOST_TAGS: usize = 4;
/// Shares of a card for the pluggable allocator; the last is all of it.
const SHARES: [f64; 4] = [0.0, 0.004, 0.016, 1.0];

impl Program {
    /// `answer` must be one of `allowed`; a driver that is told to refuse calls may fail anything.
    fn expect(&self, what: &str, answer: Option<i32>, allowed: &[i32]) -> Result {
        match answer {
            Some(code) if !allowed.contains(&code) && !self.options.refused => {
                let why = self.extras.last_error();
                Err(Trouble::Wrong(format!("{what} answers {code} ({why}), allowed {allowed:?}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn evict(&mut self) -> Result {
        if self.rng.once_in(3) {
            return self.evict_what(What::All);
        }
        if self.rng.once_in(4) {
            let tag = TAGS[self.rng.below(TAGS.len())];
            return self.evict_what(What::Tagged(tag));
        }
        let Some(i) = self.pick() else { return Ok(()) };
        let (at, pinned) = (self.buffers[i].at, self.buffers[i].pins > 0);
        match pinned {
            true => {
                let answer = self.extras.evict(What::At(at));
                self.expect(
                    "evict of a pinned buffer",
                    answer,
                    &[status::PINNED, status::BUSY, status::OFF],
                )
            }
            false => self.evict_what(What::At(at)),
        }
    }

    fn evict_what(&mut self, what: What<'_>) -> Result {
        let answer = self.extras.evict(what);
        let allowed: &[i32] = match self.off {
            Some(_) => &[status::OFF],
            None => &[status::OK, status::KEPT, status::BUSY, status::OFF],
        };
        self.expect("evict", answer, allowed)
    }

    pub(crate) fn restore(&mut self) -> Result {
        let what = match self.rng.below(8) {
            0 | 1 => What::All,
            2 => What::Tagged(TAGS[self.rng.below(TAGS.len())]),
            _ => match self.pick() {
                Some(i) => What::At(self.buffers[i].at),
                None => return Ok(()),
            },
        };
        let answer = self.extras.restore(what);
        let allowed = &[status::OK, status::OUT_OF_MEMORY, status::BUSY];
        self.expect("restore", answer, allowed)
    }

    /// Everything leaves, a few buffers are looked at, everything comes back.
    pub(crate) fn sleep(&mut self) -> Result {
        self.machine.synchronize()?;
        self.evict_what(What::All)?;
        for _ in 0..self.rng.below(4) {
            if let Some(i) = self.pick() {
                self.compare(i)?;
            }
        }
        let answer = self.extras.restore(What::All);
        self.expect("waking", answer, &[status::OK, status::OUT_OF_MEMORY, status::BUSY])
    }

    pub(crate) fn tag(&mut self) -> Result {
        if self.tags < MOST_TAGS && self.rng.once_in(2) {
            let tag = TAGS[self.rng.below(TAGS.len())];
            self.tags += usize::from(self.extras.managed());
            return self.expect("tag_push", self.extras.tag_push(tag), &[status::OK]);
        }
        let allowed = if self.tags == 0 { status::INVALID } else { status::OK };
        self.tags = self.tags.saturating_sub(1);
        self.expect("tag_pop", self.extras.tag_pop(), &[allowed])
    }

    pub(crate) fn pin(&mut self) -> Result {
        let pinned = self.buffers.iter().filter(|b| b.pins > 0).count();
        let Some(i) = self.pick().filter(|_| pinned < MOST_PINNED) else { return Ok(()) };
        let answer = self.extras.pin(self.buffers[i].at);
        self.buffers[i].pins += u32::from(answer == Some(status::OK));
        self.expect("pin", answer, &[status::OK, status::OUT_OF_MEMORY, status::BUSY])
    }

    pub(crate) fn unpin(&mut self) -> Result {
        let pinned = self.buffers.iter().position(|b| b.pins > 0);
        let Some(i) = pinned.filter(|_| !self.rng.once_in(8)).or_else(|| self.pick()) else {
            return Ok(());
        };
        let buffer = &mut self.buffers[i];
        let allowed = if buffer.pins == 0 { status::INVALID } else { status::OK };
        buffer.pins = buffer.pins.saturating_sub(1);
        let answer = self.extras.unpin(buffer.at);
        self.expect("unpin", answer, &[allowed])
    }

    pub(crate) fn hint(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let at = self.buffers[i].at;
        match self.rng.below(5) {
            0 | 1 => self.expect("prefetch", self.extras.prefetch(at), &[status::OK]),
            2 => self.expect("advise", self.extras.advise(at, 1), &[status::OK]),
            3 => self.expect("advise", self.extras.advise(at, 2), &[status::OK]),
            _ => {
                self.expect("no such advice", self.extras.advise(at, 3), &[status::INVALID])?;
                self.expect("a stray pin", self.extras.pin(8), &[status::NOT_MANAGED])
            }
        }
    }

    /// Another share of a card for the pluggable allocator, or its memory that is held ready.
    pub(crate) fn share(&mut self) -> Result {
        if self.rng.once_in(3) {
            self.extras.torch_reset();
            return Ok(());
        }
        let card = self.rng.below(self.shares.len());
        let share = SHARES[self.rng.below(SHARES.len())];
        self.extras.torch_fraction(share, card as i32);
        self.shares[card].0 = share;
        Ok(())
    }

    /// The user turns eviction off, or on again.
    pub(crate) fn switch(&mut self) -> Result {
        let off = self.off.is_none();
        let Some(done) = self.extras.switch(off) else { return Ok(()) };
        if !off {
            self.off = None;
            return match done {
                true => Ok(()),
                false => Err(Trouble::Wrong("coldpress on failed".into())),
            };
        }
        let Some(stats) = self.extras.stats() else { return Ok(()) };
        self.off = Some(stats.evictions);
        // Refused, it means that not all fits; nothing more is evicted all the same.
        if done && stats.spilled_bytes > 0 {
            let away = stats.spilled_bytes;
            return Err(Trouble::Wrong(format!("off, and {away} bytes are away")));
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self) -> Result {
        let lane = self.lane()?;
        match self.rng.below(3) {
            0 => self.machine.driver.stream_synchronize(lane.stream)?,
            // Asking is an operation too: lazy streams advance by it.
            1 => match self.machine.driver.stream_query(lane.stream) {
                Ok(()) | Err(Code::NOT_READY) => {}
                Err(e) => return Err(e.into()),
            },
            _ => self.check_pinned()?,
        }
        Ok(())
    }

    /// A stream comes or goes.
    pub(crate) fn stream(&mut self) -> Result {
        let card = self.rng.below(self.machine.cards.len());
        self.machine.enter(card)?;
        if self.rng.once_in(2) {
            self.machine.create_stream(card, (self.rng.next() & 1) as u32)?;
        } else {
            let which = self.rng.below(64);
            self.machine.destroy_stream(card, which)?;
        }
        Ok(())
    }

    /// A context ends and everything in it; the program starts afresh there.
    pub(crate) fn reset(&mut self) -> Result {
        let card = self.rng.below(self.machine.cards.len());
        self.check_pinned()?;
        let lane = self.machine.lanes[0];
        while let Some(i) = self.buffers.iter().position(|b| b.card == card) {
            let mut buffer = self.remove(i);
            if matches!(buffer.made, Made::Torch | Made::Pooled) {
                // Pools belong to the device, and PyTorch's count goes on: both are freed before.
                self.machine.enter(lane.card)?;
                self.free_buffer(&mut buffer, lane, true)?;
            } else {
                self.machine.forget(&mut buffer);
            }
        }
        self.machine.synchronize()?;
        self.machine.reset(card, &mut self.buffers)?;
        if card == 0 {
            self.machine.enter(0)?;
            (self.pinned, self.host_tables) =
                Self::host_memory(&self.options, &self.machine.driver)?;
            self.host_tables_used = 0;
            self.tables.retain(|t| matches!(t.at, Place::Buffer(_)));
        }
        self.outcome.resets += 1;
        Ok(())
    }
}
