//! The state of a random program, and the steps that change what there is: buffers, streams,
//! tables of buffers, waits.

use crate::check::{OUT_OF_MEMORY, Pinned, Result, Trouble};
use crate::coldpress::{Extras, Report};
use crate::kernels::Kernels;
use crate::machine::{Buffer, Machine};
use crate::options::Options;
use crate::rng::Rng;
use crate::sequence::Outcome;
use cuda_client::{Code, DevicePtr, Driver, Stream};

/// Rows of a table.
pub const ROWS: usize = 4;
/// Tables that fit into the pinned host memory for them.
const HOST_TABLES: usize = 32;

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
pub struct Program<'a> {
    pub(crate) options: &'a Options,
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) machine: Machine,
    pub(crate) kernels: Kernels,
    pub(crate) extras: Extras,
    /// What coldpress had counted when the program began: the process may have run others.
    pub(crate) before: Report,
    /// And after the last step.
    pub(crate) last: Report,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) tables: Vec<Table>,
    /// The buffer that the module's global names.
    pub(crate) shared: Option<usize>,
    pub(crate) pinned: Pinned,
    /// Pinned host memory for tables, and how many were made in it since the last full wait.
    pub(crate) host_tables: *mut u64,
    pub(crate) host_tables_used: usize,
    pub(crate) live: usize,
    pub(crate) outcome: Outcome,
}

impl<'a> Program<'a> {
    /// Streams, kernels and pinned memory; no buffer yet.
    pub fn new(options: &'a Options, seed: u64, driver: Driver) -> std::result::Result<Self, Code> {
        let kernels = Kernels::load(&driver)?;
        let extras = Extras::find(&driver);
        extras.reset_peak();
        let before = extras.stats().unwrap_or_default();
        let pinned = Pinned::new(&driver, options.budget / 8)?;
        let host_tables = driver.host_alloc(HOST_TABLES * ROWS * 16, 0)?.cast();
        Ok(Program {
            options,
            seed,
            rng: Rng::new(seed),
            machine: Machine::new(driver)?,
            kernels,
            extras,
            before,
            last: before,
            buffers: Vec::new(),
            tables: Vec::new(),
            shared: None,
            pinned,
            host_tables,
            host_tables_used: 0,
            live: 0,
            outcome: Outcome::default(),
        })
    }

    /// Takes one step. Its choices depend on the seed, its number and what there is.
    pub fn step(&mut self, step: usize) -> Result {
        self.outcome.steps += 1;
        self.rng = Rng::of_step(self.seed, step);
        let choice = self.rng.below(100);
        let (what, act): (_, fn(&mut Self) -> Result) = match choice {
            _ if self.buffers.len() < 4 => ("allocate", Self::allocate),
            0..=16 => ("allocate", Self::allocate),
            17..=24 => ("free", Self::free),
            25..=56 => ("kernel", Self::kernel),
            57..=63 => ("upload", Self::upload),
            64..=70 => ("download", Self::download),
            71..=75 => ("copy", Self::copy),
            76..=80 => ("fill", Self::fill),
            81..=84 => ("table", Self::table),
            85..=87 => ("wait", Self::wait),
            88 => ("renew", Self::renew),
            89 => ("name a global", Self::name_global),
            90 => ("wrong call", Self::wrong_call),
            91..=95 => ("evict", Self::evict),
            _ => ("restore", Self::restore),
        };
        if self.options.verbose {
            eprintln!("step {step}: {what}, {} buffers", self.buffers.len());
        }
        act(self)
    }

    /// Any of the streams.
    pub(crate) fn stream(&mut self) -> Stream {
        let n = self.machine.streams.len();
        self.machine.streams[self.rng.below(n)]
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

    fn is_table(&self, i: usize) -> bool {
        self.tables.iter().any(|t| t.at == Place::Buffer(i))
    }

    fn allocate(&mut self) -> Result {
        // A large one takes up to a sixteenth of the budget.
        let large = self.options.budget / 64;
        let words = match self.rng.below(5) {
            0 => 1 + self.rng.below(200),
            1 => 200 + self.rng.below(4000),
            2 => 64 << self.rng.below(8),
            _ => large / 8 + self.rng.below(large),
        };
        if self.live + words * 4 > self.options.budget {
            return self.free();
        }
        let stream = self.stream();
        let driver = &self.machine.driver;
        let how = self.rng.below(4);
        let bytes = words * 4;
        // A pitched allocation is as long as its padded row.
        let got = match how {
            0 => driver.mem_alloc_async(bytes, stream).map(|at| (at, bytes)),
            1 => driver.mem_alloc_pitch(bytes, 1, 4),
            _ => driver.mem_alloc(bytes).map(|at| (at, bytes)),
        };
        let (at, logical) = match got {
            Ok(got) => got,
            Err(e) if e == OUT_OF_MEMORY => {
                self.outcome.out_of_memory += 1;
                return self.free();
            }
            Err(e) => return Err(e.into()),
        };
        let overlaps = |b: &Buffer| at < b.at + b.logical && b.at < at + logical as u64;
        if let Some(other) = self.buffers.iter().find(|b| overlaps(b)) {
            let (there, size) = (other.at, other.logical);
            return Err(Trouble::Wrong(format!(
                "{logical} bytes at {at:#x} lie in the {size} live bytes at {there:#x}"
            )));
        }
        let mut buffer = Buffer::new(at, words, logical as u64, how == 0);
        // The first write is on the same stream, so it also stands for the allocation itself.
        self.machine.again(|driver| driver.set_d32_async(at, 0x5EED_0000, words, stream))?;
        buffer.model.fill(0x5EED_0000);
        self.machine.after(stream, &mut buffer, true)?;
        self.live += words * 4;
        self.buffers.push(buffer);
        Ok(())
    }

    fn free(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let asynchronous = self.buffers[i].pooled && !self.rng.once_in(4);
        let stream = self.stream();
        let buffer = self.remove(i);
        let freed = if asynchronous {
            let ordered = self.machine.before(stream, &buffer, true);
            ordered.and_then(|()| self.machine.driver.mem_free_async(buffer.at, stream))
        } else {
            self.machine.driver.mem_free(buffer.at)
        };
        if let Err(e) = freed {
            // It is still there.
            self.buffers.push(buffer);
            return Err(e.into());
        }
        self.live -= buffer.model.len() * 4;
        self.machine.forget(buffer);
        Ok(())
    }

    /// Takes a buffer out; tables that are or name it are gone too. The last one takes its index.
    pub(crate) fn remove(&mut self, i: usize) -> Buffer {
        let last = self.buffers.len() - 1;
        self.tables.retain(|t| t.at != Place::Buffer(i) && !t.rows.contains(&i));
        if self.shared == Some(i) {
            self.shared = None;
        }
        for table in &mut self.tables {
            if table.at == Place::Buffer(last) {
                table.at = Place::Buffer(i);
            }
            for row in table.rows.iter_mut().filter(|row| **row == last) {
                *row = i;
            }
        }
        if self.shared == Some(last) {
            self.shared = Some(i);
        }
        self.buffers.swap_remove(i)
    }

    /// Makes a table: from now on kernels reach the buffers it names through it alone.
    fn table(&mut self) -> Result {
        let picked: Vec<usize> =
            (0..1 + self.rng.below(ROWS)).filter_map(|_| self.pick()).collect();
        let rows: Vec<usize> = picked.into_iter().filter(|&r| !self.is_table(r)).collect();
        if rows.is_empty() || self.tables.len() >= 4 {
            return Ok(());
        }
        if self.rng.once_in(2) {
            return self.table_on_host(rows);
        }
        let Some(at) = self.target() else { return Ok(()) };
        let named = self.tables.iter().any(|t| t.rows.contains(&at)) || rows.contains(&at);
        let fits = rows.len() * 4 <= self.buffers[at].model.len();
        if named || !fits || self.shared == Some(at) {
            return Ok(());
        }
        let words = self.row_words(&rows);
        let stream = self.stream();
        self.before(stream, &[], &[at])?;
        let to = self.buffers[at].at;
        // SAFETY: pageable memory has been read when the call returns.
        unsafe {
            let from = words.as_ptr().cast();
            self.machine.driver.copy_h2d_async(to, from, words.len() * 8, stream)
        }?;
        self.after(stream, &[], &[at])?;
        for (i, word) in words.iter().enumerate() {
            self.buffers[at].model[2 * i] = *word as u32;
            self.buffers[at].model[2 * i + 1] = (word >> 32) as u32;
        }
        self.tables.push(Table { at: Place::Buffer(at), rows });
        Ok(())
    }

    fn table_on_host(&mut self, rows: Vec<usize>) -> Result {
        if self.host_tables_used == HOST_TABLES {
            // Kernels that read the old ones may be queued.
            self.machine.driver.ctx_synchronize()?;
            self.tables.retain(|t| matches!(t.at, Place::Buffer(_)));
            self.host_tables_used = 0;
        }
        let words = self.row_words(&rows);
        // SAFETY: a slot inside the allocation that no queued kernel reads.
        let at = unsafe {
            let at = self.host_tables.add(self.host_tables_used * ROWS * 2);
            at.copy_from_nonoverlapping(words.as_ptr(), words.len());
            at
        };
        self.host_tables_used += 1;
        self.tables.push(Table { at: Place::Host(at as DevicePtr), rows });
        Ok(())
    }

    /// Address and length of each buffer, as kernels expect them in a table.
    fn row_words(&self, rows: &[usize]) -> Vec<u64> {
        let row = |&r: &usize| [self.buffers[r].at, self.buffers[r].model.len() as u64];
        rows.iter().flat_map(row).collect()
    }

    fn name_global(&mut self) -> Result {
        let Some(i) = self.target() else { return Ok(()) };
        // Kernels that read the global may be queued anywhere.
        self.machine.driver.ctx_synchronize()?;
        let row = self.row_words(&[i]);
        self.machine.driver.upload(self.kernels.global, &row)?;
        self.shared = Some(i);
        Ok(())
    }

    fn wait(&mut self) -> Result {
        let stream = self.stream();
        match self.rng.below(3) {
            0 => self.machine.driver.stream_synchronize(stream)?,
            // Asking is an operation too: lazy streams advance by it.
            1 => match self.machine.driver.stream_query(stream) {
                Ok(()) | Err(Code::NOT_READY) => {}
                Err(e) => return Err(e.into()),
            },
            _ => self.check_pinned()?,
        }
        Ok(())
    }

    fn renew(&mut self) -> Result {
        let which = self.rng.below(4);
        let gone = self.machine.streams[2 + which];
        self.machine.renew_stream(which, (self.rng.next() & 1) as u32)?;
        Machine::unname(&mut self.buffers, gone);
        Ok(())
    }

    /// A mistake that the driver reports and that changes nothing.
    fn wrong_call(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let (at, bytes) = (self.buffers[i].at, self.buffers[i].logical);
        let driver = &self.machine.driver;
        let (what, result) = match self.rng.below(3) {
            0 if bytes > 4 => ("free inside a buffer", driver.mem_free(at + 4)),
            1 => ("allocate nothing", driver.mem_alloc(0).map(drop)),
            _ => ("free of null's neighbour", driver.mem_free(8)),
        };
        match result {
            Ok(()) => Err(Trouble::Wrong(format!("{what} was accepted"))),
            Err(_) => Ok(()),
        }
    }

    fn evict(&mut self) -> Result {
        let at = self.pick().map(|i| self.buffers[i].at);
        self.extras.evict(at.filter(|_| !self.rng.once_in(3)));
        Ok(())
    }

    fn restore(&mut self) -> Result {
        let at = self.pick().map(|i| self.buffers[i].at);
        self.extras.restore(at.filter(|_| !self.rng.once_in(4)));
        Ok(())
    }
}
