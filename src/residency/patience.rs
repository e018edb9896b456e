//! How long anything waits for the device or for others, and what happens between two tries.
//!
//! Work that is queued may wait for something that only the waiting thread can do: set a flag, or
//! return from this very call. So no wait here is for ever, nobody holds the ticket or pins
//! between two tries, and the world runs meanwhile.

use super::ticket::{self, Ticket};
use crate::config;
use crate::driver::{CUresult, code};
use std::time::{Duration, Instant};

/// Longest wait for the device in a first try.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// Longest wait for the device in any try.
const LONGEST: Duration = Duration::from_secs(4);

/// How hard one try may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Longest wait for the device; nothing for a try that takes only what is there.
    pub patience: Duration,
    /// Whether the limit may be passed when nothing else helps: an operation of the program needs
    /// its memory, a mere wish does not.
    pub exceed: bool,
}

impl Effort {
    /// A single try for a wish.
    pub const WISH: Effort = Effort { patience: PATIENCE, exceed: false };
}

/// When an operation that begins now gives up.
pub fn deadline() -> Instant {
    Instant::now() + config::get().restore_wait
}

/// Tries until something comes of it. NOT_READY means that the device was busy or that others hold
/// what is needed: both pass, so it is tried again, with more patience since work may be queued
/// deeper than one. After `deadline` a last try waits for nothing; whoever has the ticket just then
/// may keep it for as long as a try takes, and is waited for where the memory is needed.
pub fn patiently<T>(
    deadline: Instant,
    exceed: bool,
    mut attempt: impl FnMut(&mut Ticket, Effort) -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    let mut patience = PATIENCE;
    let mut pause = PATIENCE / 50;
    let grace = if exceed { config::get().restore_wait.min(LONGEST) } else { Duration::ZERO };
    loop {
        let Some(mut ticket) = ticket::take_until(deadline + grace) else {
            return Err(code::OUT_OF_MEMORY);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let last = left.is_zero();
        let effort = Effort { patience: patience.min(left), exceed };
        match attempt(&mut ticket, effort) {
            Err(code::NOT_READY) if last => return Err(code::OUT_OF_MEMORY),
            Err(code::NOT_READY) => {}
            done => return done,
        }
        drop(ticket);
        std::thread::sleep(pause);
        pause = (pause * 2).min(PATIENCE / 2);
        patience = (patience * 2).min(LONGEST);
    }
}
