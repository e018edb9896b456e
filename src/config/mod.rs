//! What the user asked for: read once from the environment, then plain fields.
//!
//! Owns: the one table of options (`table`), how values are found (`load`) and what the machine
//! can spare (`host`). Never: what an option does. Reading happens at the first [`get`]; after
//! that nothing here takes a lock.
#![forbid(unsafe_code)]

pub mod host;
mod load;
mod reference;
pub mod table;

pub use load::{Loaded, Origin, Setting};
pub use reference::{man, markdown};

use crate::units::Size;
use std::sync::OnceLock;
use std::time::Duration;

/// What is done with cold memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing moves until an allocation would fail.
    Rescue,
    /// Cold memory leaves ahead of time.
    Active,
    /// Nothing of the job changes; only statistics are kept.
    Trace,
}

/// What must be proved before a buffer is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Every root is scanned, always.
    Strict,
    /// Roots that something could have written since their last clean scan are scanned.
    Standard,
    /// The parameters of launches are trusted.
    Params,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The copy before the original goes, and every restore.
    On,
    /// As `On`, and the operation that needs a restore waits for its verdict.
    Strict,
    /// Restores only.
    Restore,
}

/// Whether a plain free waits for the device, as the driver's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeSync {
    /// Where programs may rely on it.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `codec`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// On the device where it can be.
    Auto,
    /// On the host.
    Cpu,
}

/// Every option, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// `mode`
    pub mode: Mode,
    /// `limit`; see [`Config::limit_for`].
    pub limit: Size,
    /// `host_limit`; see [`Config::host_limit_bytes`].
    pub host_limit: Size,
    /// `safety`
    pub safety: Safety,
    /// `verify`
    pub verify: Verify,
    /// `codec`
    pub codec: Codec,
    /// `watermark`; see [`Config::watermark_for`].
    pub watermark: Size,
    /// `restore_wait`
    pub restore_wait: Duration,
    /// `free_sync`
    pub free_sync: FreeSync,
    /// `mps`
    pub mps: bool,
    /// `torture`
    pub torture: bool,
    /// Why the library does nothing at all, if so.
    pub disabled: Option<String>,
    /// How much is said: 0 problems only, 1 the usual lines, 2 the effective settings too.
    pub verbose: u8,
}

impl Config {
    /// What may be charged on a card of `card` bytes.
    pub fn limit_for(&self, card: u64) -> u64 {
        self.limit.of(card)
    }

    /// Free memory that `mode:active` keeps under a limit of `limit` bytes.
    pub fn watermark_for(&self, limit: u64) -> u64 {
        self.watermark.of(limit)
    }

    /// Host memory this process may hold for evicted bytes. A share is taken of what the machine
    /// can spare at the first call that finds out, and divided among the processes of the job on
    /// this node.
    pub fn host_limit_bytes(&self) -> u64 {
        static SHARE: OnceLock<u64> = OnceLock::new();
        match self.host_limit {
            Size::Absolute(bytes) => bytes,
            share => {
                if let Some(&known) = SHARE.get() {
                    return known;
                }
                let Ok(bytes) = host::headroom() else { return 0 };
                *SHARE.get_or_init(|| share.of(bytes) / host::local_world_size())
            }
        }
    }
}

/// The configuration of this process.
pub fn get() -> &'static Config {
    &loaded().config
}

/// The value of option `key`, as it was written.
pub fn value(key: &str) -> &'static str {
    loaded().settings.iter().find(|s| s.option.key == key).map_or("", |s| &s.value)
}

/// The configuration with where each value came from, and what was wrong.
pub fn loaded() -> &'static Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED.get_or_init(|| Loaded::from_variables(load::variables()))
}
