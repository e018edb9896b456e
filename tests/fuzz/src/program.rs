//! The state of a random program, and which operations there are.

use crate::check::{Pinned, Result};
use crate::coldpress::{Extras, Report};
use crate::machine::{Buffer, Lane, Machine};
use crate::options::Options;
use crate::rng::Rng;
use crate::script::Step;
use crate::sequence::Outcome;
use cuda_client::{Code, DevicePtr, Driver};

/// Rows of a table.
pub const ROWS: usize = 4;
/// Tables that fit into the pinned host memory for them.
pub const HOST_TABLES: usize = 32;
/// Tags that programs use.
pub const TAGS: [&str; 3] = ["model", "state", "cache"];

/// Where a table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the buffer of this index.
    Buffer(usize),
    /// In pinned host memory, which kernels read at the host's address.
    Host(DevicePtr),
}

/// A list of buffers in memory that kernels reach the buffers through.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where it is.
    pub at: Place,
    /// Indices of what it names.
    pub rows: Vec<usize>,
}

/// One program.
pub struct Program {
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) machine: Machine,
    pub(crate) extras: Extras,
    /// What coldpress had counted when the program began: the process may have run others.
    pub(crate) before: Report,
    /// And after the last step.
    pub(crate) last: Report,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) tables: Vec<Table>,
    pub(crate) pinned: Pinned,
    /// Pinned host memory for tables, and how many were made in it since the last full wait.
    pub(crate) host_tables: *mut u64,
    pub(crate) host_tables_used: usize,
    pub(crate) live: usize,
    /// Tags on this thread's stack.
    pub(crate) tags: usize,
    /// The user keeps eviction off, and how many there had been then.
    pub(crate) off: Option<u64>,
    /// Share of each card for the pluggable allocator, and bytes it was asked for.
    pub(crate) shares: Vec<(f64, u64)>,
    pub(crate) outcome: Outcome,
}

/// An operation: its name, how often it comes in a thousand, what it does.
pub type Operation = (&'static str, usize, fn(&mut Program) -> Result);

/// All of them; the first [`SIMPLE`] are those that change nothing when the driver refuses them. The
/// names stand in regression files.
pub const OPERATIONS: &[Operation] = &[
    ("allocate", 170, Program::allocate),
    ("free", 80, Program::free),
    ("kernel", 310, Program::kernel),
    ("upload", 70, Program::upload),
    ("download", 70, Program::download),
    ("copy", 50, Program::copy),
    ("fill", 45, Program::fill),
    ("table", 40, Program::table),
    ("wait", 30, Program::wait),
    ("stream", 15, Program::stream),
    ("global", 10, Program::name_global),
    ("evict", 30, Program::evict),
    ("restore", 20, Program::restore),
    ("mistake", 8, Program::mistake),
    ("ask", 8, Program::ask),
    ("sleep", 4, Program::sleep),
    ("tag", 8, Program::tag),
    ("pin", 8, Program::pin),
    ("unpin", 8, Program::unpin),
    ("hint", 8, Program::hint),
    ("share", 3, Program::share),
    ("reset", 3, Program::reset),
    ("switch", 2, Program::switch),
];

/// See [`OPERATIONS`].
const SIMPLE: usize = 13;

impl Program {
    /// Contexts, streams, kernels and pinned memory; no buffer yet.
    pub fn new(options: &Options, first: Rng, driver: Driver) -> std::result::Result<Self, Code> {
        let mut rng = first;
        let own = rng.once_in(3);
        let extras = Extras::find(&driver);
        (0..options.devices).for_each(|card| extras.reset_peak(card));
        let before = extras.stats().unwrap_or_default();
        let machine = Machine::new(driver, options.devices, own)?;
        machine.enter(0)?;
        let (pinned, host_tables) = Self::host_memory(options, &machine.driver)?;
        Ok(Program {
            options: options.clone(),
            rng,
            machine,
            extras,
            before,
            last: before,
            buffers: Vec::new(),
            tables: Vec::new(),
            pinned,
            host_tables,
            host_tables_used: 0,
            live: 0,
            tags: 0,
            off: None,
            shares: vec![(1.0, 0); options.devices],
            outcome: Outcome::default(),
        })
    }

    /// Pinned memory of the first card's context: for copies, and for tables.
    pub(crate) fn host_memory(
        options: &Options,
        driver: &Driver,
    ) -> std::result::Result<(Pinned, *mut u64), Code> {
        // Every scan reads it, so it is no larger than a few copies need.
        let pinned = Pinned::new(driver, options.budget / 32)?;
        Ok((pinned, driver.host_alloc(HOST_TABLES * ROWS * 16, 0)?.cast()))
    }

    /// Takes one step of a seed. Its choices depend on the seed, its number and what there is.
    pub fn step(&mut self, seed: u64, step: usize) -> (Step, Result) {
        self.rng = Rng::of_step(seed, step);
        let simple = if self.machine.patient { SIMPLE } else { OPERATIONS.len() };
        let operations = &OPERATIONS[..simple];
        let all: usize = operations.iter().map(|o| o.1).sum();
        let mut choice = self.rng.below(all);
        self.rng.take_drawn();
        let operation = operations.iter().find(|o| {
            let here = choice < o.1;
            choice = choice.saturating_sub(o.1);
            here || self.buffers.len() < 4
        });
        self.perform(operation.unwrap_or(&OPERATIONS[0]))
    }

    /// Takes a step that was written down.
    pub fn repeat(&mut self, step: &Step) -> (Step, Result) {
        self.rng = Rng::kept(&step.numbers);
        match OPERATIONS.iter().find(|o| o.0 == step.name) {
            Some(operation) => self.perform(operation),
            None => {
                let what = format!("no operation is called {}", step.name);
                (step.clone(), Err(crate::check::Trouble::Wrong(what)))
            }
        }
    }

    /// Runs an operation; what it was with all its numbers, and how it went.
    fn perform(&mut self, operation: &Operation) -> (Step, Result) {
        let (name, _, act) = operation;
        self.outcome.steps += 1;
        if self.options.verbose {
            eprintln!("step {}: {name}, {} buffers", self.outcome.steps, self.buffers.len());
        }
        let result = act(self);
        (Step { name: (*name).to_owned(), numbers: self.rng.take_drawn() }, result)
    }

    /// Any lane; its card is entered.
    pub(crate) fn lane(&mut self) -> std::result::Result<Lane, Code> {
        let n = self.machine.lanes.len();
        let lane = self.machine.lanes[self.rng.below(n)];
        self.machine.enter(lane.card)?;
        Ok(lane)
    }

    /// The index of any buffer.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        (!self.buffers.is_empty()).then(|| self.rng.below(self.buffers.len()))
    }

    /// The index of a buffer that is no table, to write to: tables keep what they hold.
    pub(crate) fn target(&mut self) -> Option<usize> {
        for _ in 0..8 {
            let i = self.pick()?;
            if !self.is_table(i) {
                return Some(i);
            }
        }
        None
    }

    pub(crate) fn is_table(&self, i: usize) -> bool {
        self.tables.iter().any(|t| t.at == Place::Buffer(i))
    }

    /// Takes a buffer out; tables that are or name it are gone too. The last one takes its index.
    pub(crate) fn remove(&mut self, i: usize) -> Buffer {
        let last = self.buffers.len() - 1;
        self.tables.retain(|t| t.at != Place::Buffer(i) && !t.rows.contains(&i));
        for table in &mut self.tables {
            if table.at == Place::Buffer(last) {
                table.at = Place::Buffer(i);
            }
            for row in table.rows.iter_mut().filter(|row| **row == last) {
                *row = i;
            }
        }
        for card in &mut self.machine.cards {
            if card.shared == Some(i) {
                card.shared = None;
            } else if card.shared == Some(last) {
                card.shared = Some(i);
            }
        }
        self.live -= self.buffers[i].model.len() * 4;
        self.buffers.swap_remove(i)
    }
}
