//! One random program.

use crate::Options;
use crate::coldpress::Extras;
use crate::kernels::{BlendArgs, Kernel, Kernels};
use crate::machine::{Buffer, Machine};
use crate::reference;
use crate::rng::Rng;
use cuda_client::{Code, Driver, Stream};
use std::ffi::c_void;

/// What a sequence did, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Buffers compared with the model.
    pub compared: u64,
    /// Allocations that found no memory; the program went on without.
    pub out_of_memory: u64,
    /// Blocks evicted, as coldpress says.
    pub evictions: u64,
    /// Blocks restored.
    pub restores: u64,
    /// Operations that had to pass the limit.
    pub over_limit: u64,
}

impl Outcome {
    /// Adds another sequence.
    pub fn add(&mut self, other: &Outcome) {
        self.steps += other.steps;
        self.launches += other.launches;
        self.compared += other.compared;
        self.out_of_memory += other.out_of_memory;
        self.evictions += other.evictions;
        self.restores += other.restores;
        self.over_limit += other.over_limit;
    }
}

/// Why a sequence failed.
#[derive(Debug)]
pub struct Failure {
    /// Step it was at.
    pub step: usize,
    what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)
    }
}

const OUT_OF_MEMORY: u32 = 2;

/// Pinned host memory for asynchronous copies: one slot a copy, checked at the next wait.
struct Pinned {
    at: *mut u32,
    words: usize,
    used: usize,
    expected: Vec<(usize, Vec<u32>)>,
}

/// A table of buffers in device memory, and the indices it names.
struct Table {
    at: usize,
    rows: Vec<usize>,
}

struct Program<'a> {
    options: &'a Options,
    rng: Rng,
    machine: Machine,
    kernels: Kernels,
    extras: Extras,
    buffers: Vec<Buffer>,
    tables: Vec<Table>,
    shared: Option<usize>,
    pinned: Pinned,
    live: usize,
    outcome: Outcome,
}

/// Runs the sequence of a seed in a context of its own.
pub fn run(options: &Options, seed: u64) -> Result<Outcome, Failure> {
    let at_start = |what: String| Failure { step: 0, what };
    let start = || -> Result<(Driver, cuda_client::Device, Program<'_>), String> {
        let driver = Driver::load().map_err(|e| e.to_string())?;
        driver.init().map_err(|e| format!("cuInit: {e}"))?;
        let (device, _) = driver.start(0).map_err(|e| format!("context: {e}"))?;
        let program = Program::new(options, seed, driver.clone()).map_err(|e| e.to_string())?;
        Ok((driver, device, program))
    };
    let (driver, device, mut program) = start().map_err(at_start)?;
    let mut step = 0;
    let mut go = || -> Result<(), String> {
        while step < options.steps {
            program.step(step).map_err(|e| e.to_string())?;
            program.check_counts()?;
            step += 1;
        }
        program.finish()
    };
    let result = go();
    let outcome = program.outcome;
    let ended = program.end().and_then(|()| driver.primary_release(device));
    let failed = |what| Failure { step, what };
    result.map_err(failed)?;
    ended.map_err(|e| failed(format!("at the end: {e}")))?;
    if let (Some(used), true) = (Extras::find(&driver).used(), options.limit.is_some()) {
        if used != 0 {
            return Err(failed(format!("{used} bytes are still in use after the context's end")));
        }
    }
    Ok(outcome)
}

impl<'a> Program<'a> {
    fn new(options: &'a Options, seed: u64, driver: Driver) -> Result<Program<'a>, Code> {
        let kernels = Kernels::load(&driver)?;
        let extras = Extras::find(&driver);
        let words = options.budget / 8;
        let at = driver.host_alloc(words * 4, 0)?.cast();
        let pinned = Pinned { at, words, used: 0, expected: Vec::new() };
        Ok(Program {
            options,
            rng: Rng::new(seed),
            machine: Machine::new(driver)?,
            kernels,
            extras,
            buffers: Vec::new(),
            tables: Vec::new(),
            shared: None,
            pinned,
            live: 0,
            outcome: Outcome::default(),
        })
    }

    fn step(&mut self, step: usize) -> Result<(), Code> {
        self.outcome.steps += 1;
        let choice = self.rng.below(100);
        if self.options.verbose {
            eprintln!("step {step}: {choice} of {} buffers", self.buffers.len());
        }
        match choice {
            _ if self.buffers.len() < 4 => self.allocate(),
            0..=17 => self.allocate(),
            18..=25 => self.free(),
            26..=57 => self.kernel(),
            58..=64 => self.upload(),
            65..=71 => self.download(),
            72..=76 => self.copy(),
            77..=81 => self.fill(),
            82..=85 => self.table(),
            86..=88 => self.wait(),
            89 => self.renew(),
            90 => self.name_global(),
            91..=95 => {
                let at = self.pick().map(|i| self.buffers[i].at);
                let at = at.filter(|_| !self.rng.once_in(3));
                self.extras.evict(at);
                Ok(())
            }
            _ => {
                let at = self.pick().map(|i| self.buffers[i].at);
                self.extras.restore(at.filter(|_| !self.rng.once_in(4)));
                Ok(())
            }
        }
    }

    fn stream(&mut self) -> Stream {
        let n = self.machine.streams.len();
        self.machine.streams[self.rng.below(n)]
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.buffers.is_empty()).then(|| self.rng.below(self.buffers.len()))
    }

    fn allocate(&mut self) -> Result<(), Code> {
        let words = match self.rng.below(4) {
            0 => 1 + self.rng.below(200),
            1 => 200 + self.rng.below(4000),
            2 => 4000 + self.rng.below(16000),
            _ => 64 << self.rng.below(8),
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
            Err(e) if e.0 == OUT_OF_MEMORY => {
                self.outcome.out_of_memory += 1;
                return self.free();
            }
            Err(e) => return Err(e),
        };
        let mut buffer = Buffer::new(at, words, logical as u64, how == 0);
        // The first write is on the same stream, so it also stands for the allocation itself.
        self.machine.driver.set_d32_async(at, 0x5EED_0000, words, stream)?;
        buffer.model.fill(0x5EED_0000);
        self.machine.after(stream, &mut buffer, true)?;
        self.live += words * 4;
        self.buffers.push(buffer);
        Ok(())
    }

    fn free(&mut self) -> Result<(), Code> {
        let Some(i) = self.pick() else { return Ok(()) };
        let asynchronous = self.buffers[i].pooled && !self.rng.once_in(4);
        let buffer = self.remove(i);
        self.live -= buffer.model.len() * 4;
        if asynchronous {
            let stream = self.stream();
            self.machine.before(stream, &buffer, true)?;
            self.machine.driver.mem_free_async(buffer.at, stream)?;
        } else {
            self.machine.driver.mem_free(buffer.at)?;
        }
        self.machine.forget(buffer);
        Ok(())
    }

    /// Takes a buffer out; tables that are or name it are gone too.
    fn remove(&mut self, i: usize) -> Buffer {
        let last = self.buffers.len() - 1;
        self.tables.retain(|t| t.at != i && !t.rows.contains(&i));
        if self.shared == Some(i) {
            self.shared = None;
        }
        for table in &mut self.tables {
            for index in std::iter::once(&mut table.at).chain(&mut table.rows) {
                if *index == last {
                    *index = i;
                }
            }
        }
        if self.shared == Some(last) {
            self.shared = Some(i);
        }
        self.buffers.swap_remove(i)
    }

    /// The index of a buffer that is no table, to write to; tables keep what they hold.
    fn target(&mut self) -> Option<usize> {
        for _ in 0..8 {
            let i = self.pick()?;
            if !self.tables.iter().any(|t| t.at == i) {
                return Some(i);
            }
        }
        None
    }

    fn before(&mut self, stream: Stream, reads: &[usize], writes: &[usize]) -> Result<(), Code> {
        for &i in reads {
            self.machine.before(stream, &self.buffers[i], false)?;
        }
        for &i in writes {
            self.machine.before(stream, &self.buffers[i], true)?;
        }
        Ok(())
    }

    fn after(&mut self, stream: Stream, reads: &[usize], writes: &[usize]) -> Result<(), Code> {
        for &i in reads.iter().filter(|i| !writes.contains(i)) {
            self.machine.after(stream, &mut self.buffers[i], false)?;
        }
        for &i in writes {
            self.machine.after(stream, &mut self.buffers[i], true)?;
        }
        Ok(())
    }

    fn launch(
        &mut self,
        kernel: Kernel,
        out: usize,
        reads: &[usize],
        values: &mut [u64],
    ) -> Result<(), Code> {
        let stream = self.stream();
        self.before(stream, reads, &[out])?;
        let words = self.buffers[out].model.len();
        let mut params: Vec<*mut c_void> =
            values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
        self.kernels.launch(&self.machine.driver, kernel, stream, words, &mut params)?;
        self.outcome.launches += 1;
        self.after(stream, reads, &[out])
    }

    fn model(&self, i: usize) -> Vec<u32> {
        self.buffers[i].model.clone()
    }

    fn kernel(&mut self) -> Result<(), Code> {
        let Some(out) = self.target() else { return Ok(()) };
        let (at, words) = (self.buffers[out].at, self.buffers[out].model.len() as u64);
        let seed = self.rng.next() as u32;
        match self.rng.below(7) {
            0 => {
                self.launch(Kernel::Fill, out, &[], &mut [at, words, seed.into()])?;
                reference::fill(&mut self.buffers[out].model, seed);
            }
            1 => {
                let Some(x) = self.pick().filter(|&x| x != out) else { return Ok(()) };
                let from = self.model(x);
                let mut values = [at, words, self.buffers[x].at, from.len() as u64, seed.into()];
                self.launch(Kernel::Axpy, out, &[x], &mut values)?;
                reference::axpy(&mut self.buffers[out].model, &from, seed);
            }
            2 => {
                let by = seed >> 27;
                let mut values = [at, words, by.into(), seed.into()];
                self.launch(Kernel::Rotate, out, &[], &mut values)?;
                reference::rotate(&mut self.buffers[out].model, by, seed);
            }
            3 => return self.gather(out),
            4 => {
                let long: Vec<usize> = (0..self.buffers.len())
                    .filter(|&i| i != out && self.buffers[i].model.len() as u64 >= words)
                    .collect();
                if long.is_empty() {
                    return Ok(());
                }
                let inputs: Vec<usize> =
                    (0..15).map(|_| long[self.rng.below(long.len())]).collect();
                let models: Vec<Vec<u32>> = inputs.iter().map(|&i| self.model(i)).collect();
                let mut values = vec![at, words];
                values.extend(inputs.iter().map(|&i| self.buffers[i].at));
                self.launch(Kernel::FanIn, out, &inputs, &mut values)?;
                reference::fan_in(&mut self.buffers[out].model, &models);
            }
            5 => return self.blend(out, seed),
            _ => {
                let Some(shared) = self.shared.filter(|&s| s != out) else { return Ok(()) };
                let from = self.model(shared);
                self.launch(Kernel::FromGlobal, out, &[shared], &mut [at, words])?;
                reference::from_global(&mut self.buffers[out].model, &from);
            }
        }
        Ok(())
    }

    fn gather(&mut self, out: usize) -> Result<(), Code> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let t = self.rng.below(self.tables.len());
        let (table, rows) = (self.tables[t].at, self.tables[t].rows.clone());
        if rows.contains(&out) {
            return Ok(());
        }
        let models: Vec<Vec<u32>> = rows.iter().map(|&r| self.model(r)).collect();
        let buffer = &self.buffers[out];
        let mut values =
            [buffer.at, buffer.model.len() as u64, self.buffers[table].at, rows.len() as u64];
        let mut reads = rows;
        reads.push(table);
        self.launch(Kernel::Gather, out, &reads, &mut values)?;
        reference::gather(&mut self.buffers[out].model, &models);
        Ok(())
    }

    fn blend(&mut self, out: usize, key: u32) -> Result<(), Code> {
        let words = self.buffers[out].model.len();
        let (Some(a), Some(b)) = (self.pick(), self.pick()) else { return Ok(()) };
        if a == out || b == out || self.buffers[a].model.len() < words {
            return Ok(());
        }
        let (model_a, model_b) = (self.model(a), self.model(b));
        let mut args = BlendArgs {
            key,
            a: self.buffers[a].at,
            b: self.buffers[b].at,
            b_words: model_b.len() as u64,
            out: self.buffers[out].at,
            words: words as u64,
            shift: (key >> 9) as u8 & 31,
        };
        let stream = self.stream();
        self.before(stream, &[a, b], &[out])?;
        let mut params = [std::ptr::from_mut(&mut args).cast()];
        self.kernels.launch(&self.machine.driver, Kernel::Blend, stream, words, &mut params)?;
        self.outcome.launches += 1;
        self.after(stream, &[a, b], &[out])?;
        let out = &mut self.buffers[out].model;
        reference::blend(out, key, &model_a, &model_b, args.shift.into());
        Ok(())
    }

    fn upload(&mut self) -> Result<(), Code> {
        let Some(i) = self.target() else { return Ok(()) };
        let words = self.buffers[i].model.len();
        let base = self.rng.next() as u32;
        let data: Vec<u32> = (0..words as u32).map(|w| base.wrapping_mul(w | 1) ^ w).collect();
        let at = self.buffers[i].at;
        if self.rng.once_in(3) {
            // The plain call is on the legacy stream: the host has to wait for the others.
            self.settle_all(i)?;
            self.machine.driver.upload(at, &data)?;
            self.after(Stream::LEGACY, &[], &[i])?;
        } else {
            let stream = self.stream();
            self.before(stream, &[], &[i])?;
            // SAFETY: pageable memory has been read when the call returns.
            unsafe {
                self.machine.driver.copy_h2d_async(at, data.as_ptr().cast(), words * 4, stream)
            }?;
            self.after(stream, &[], &[i])?;
        }
        self.buffers[i].model = data;
        Ok(())
    }

    /// The host waits for every access to a buffer.
    fn settle_all(&mut self, i: usize) -> Result<(), Code> {
        let stream = self.machine.streams[2];
        self.machine.before(stream, &self.buffers[i], true)?;
        self.machine.driver.stream_synchronize(stream)?;
        self.machine.settle(&self.buffers[i])
    }

    fn download(&mut self) -> Result<(), Code> {
        let Some(i) = self.pick() else { return Ok(()) };
        let (at, words) = (self.buffers[i].at, self.buffers[i].model.len());
        if self.rng.once_in(2) && self.pinned.used + words <= self.pinned.words {
            let stream = self.stream();
            self.before(stream, &[i], &[])?;
            let slot = self.pinned.used;
            // SAFETY: the slot is ours and nobody else's until the next check.
            unsafe {
                let to = self.pinned.at.add(slot).cast();
                self.machine.driver.copy_d2h_async(to, at, words * 4, stream)
            }?;
            self.after(stream, &[i], &[])?;
            self.pinned.used += words;
            let expected = self.model(i);
            self.pinned.expected.push((slot, expected));
            return Ok(());
        }
        self.compare(i)
    }

    /// Reads a buffer back and compares it.
    fn compare(&mut self, i: usize) -> Result<(), Code> {
        self.machine.settle(&self.buffers[i])?;
        let buffer = &self.buffers[i];
        let got: Vec<u32> = self.machine.driver.read(buffer.at, buffer.model.len())?;
        self.outcome.compared += 1;
        if let Some(w) = (0..got.len()).find(|&w| got[w] != buffer.model[w]) {
            return Err(self.wrong(buffer.at, w, got[w], buffer.model[w]));
        }
        Ok(())
    }

    fn wrong(&self, at: u64, word: usize, got: u32, want: u32) -> Code {
        println!("  buffer {at:#x}: word {word} is {got:#x}, must be {want:#x}");
        Code(u32::MAX)
    }

    fn copy(&mut self) -> Result<(), Code> {
        let (Some(to), Some(from)) = (self.target(), self.pick()) else { return Ok(()) };
        let n = self.buffers[to].model.len().min(self.buffers[from].model.len());
        if to == from {
            return Ok(());
        }
        let stream = self.stream();
        self.before(stream, &[from], &[to])?;
        let (dst, src) = (self.buffers[to].at, self.buffers[from].at);
        self.machine.driver.copy_d2d_async(dst, src, n * 4, stream)?;
        self.after(stream, &[from], &[to])?;
        let source = self.model(from);
        self.buffers[to].model[..n].copy_from_slice(&source[..n]);
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Code> {
        let Some(i) = self.target() else { return Ok(()) };
        let stream = self.stream();
        self.before(stream, &[], &[i])?;
        let value = if self.rng.once_in(2) { 0 } else { self.rng.next() as u32 };
        let (at, words) = (self.buffers[i].at, self.buffers[i].model.len());
        let some = 1 + self.rng.below(words);
        self.machine.driver.set_d32_async(at, value, some, stream)?;
        self.after(stream, &[], &[i])?;
        self.buffers[i].model[..some].fill(value);
        Ok(())
    }

    /// Makes a buffer a table of others: from now on kernels reach those through it.
    fn table(&mut self) -> Result<(), Code> {
        let Some(at) = self.target() else { return Ok(()) };
        let room = self.buffers[at].model.len() / 4;
        let picked: Vec<usize> =
            (0..1 + self.rng.below(4)).filter_map(|_| self.pick()).take(room).collect();
        let is_table = |r: usize| self.tables.iter().any(|t| t.at == r);
        let rows: Vec<usize> = picked.into_iter().filter(|&r| r != at && !is_table(r)).collect();
        if rows.is_empty() || self.tables.len() >= 3 || self.shared == Some(at) {
            return Ok(());
        }
        if self.tables.iter().any(|t| t.rows.contains(&at)) {
            return Ok(());
        }
        let words: Vec<u64> = rows
            .iter()
            .flat_map(|&r| [self.buffers[r].at, self.buffers[r].model.len() as u64])
            .collect();
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
        self.tables.push(Table { at, rows });
        Ok(())
    }

    fn name_global(&mut self) -> Result<(), Code> {
        let Some(i) = self.target() else { return Ok(()) };
        // Kernels that read the global may be queued anywhere.
        self.machine.driver.ctx_synchronize()?;
        let row = [self.buffers[i].at, self.buffers[i].model.len() as u64];
        self.machine.driver.upload(self.kernels.global, &row)?;
        self.shared = Some(i);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Code> {
        match self.rng.below(3) {
            0 => {
                let stream = self.stream();
                self.machine.driver.stream_synchronize(stream)
            }
            1 => {
                let stream = self.stream();
                // Asking is an operation too: lazy streams advance by it.
                match self.machine.driver.stream_query(stream) {
                    Err(e) if e.0 == 600 => Ok(()),
                    other => other,
                }
            }
            _ => self.check_pinned(),
        }
    }

    fn check_pinned(&mut self) -> Result<(), Code> {
        self.machine.driver.ctx_synchronize()?;
        let expected = std::mem::take(&mut self.pinned.expected);
        self.pinned.used = 0;
        for (slot, want) in expected {
            // SAFETY: inside the pinned allocation, and every copy into it has ended.
            let got = unsafe { std::slice::from_raw_parts(self.pinned.at.add(slot), want.len()) };
            self.outcome.compared += 1;
            if let Some(w) = (0..want.len()).find(|&w| got[w] != want[w]) {
                return Err(self.wrong(0, w, got[w], want[w]));
            }
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Code> {
        let which = self.rng.below(4);
        let gone = self.machine.streams[2 + which];
        self.machine.renew_stream(which, (self.rng.next() & 1) as u32)?;
        Machine::unname(&mut self.buffers, gone);
        Ok(())
    }

    /// Nothing faulted, and the limit was kept unless coldpress says that it had to pass it.
    fn check_counts(&mut self) -> Result<(), String> {
        if self.extras.faults() > 0 {
            return Err("device work met an unmapped page".into());
        }
        let (Some(limit), Some(peak)) = (self.options.limit, self.extras.peak()) else {
            return Ok(());
        };
        if peak > limit {
            return Err(format!("peak {peak} is above the limit {limit}"));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.check_pinned().map_err(|e| e.to_string())?;
        for i in 0..self.buffers.len() {
            self.compare(i).map_err(|e| format!("buffer {i} at the end: {e}"))?;
        }
        if let Some(stats) = self.extras.stats() {
            self.outcome.evictions = stats.evictions;
            self.outcome.restores = stats.restores;
            let live: u64 = self.buffers.iter().map(|b| b.logical).sum();
            if stats.logical_bytes != live {
                let counted = stats.logical_bytes;
                return Err(format!("coldpress counts {counted} live bytes, the model {live}"));
            }
            if stats.verify_failures > 0 {
                return Err(format!("{} copies failed their check", stats.verify_failures));
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Code> {
        self.machine.driver.ctx_synchronize()?;
        while !self.buffers.is_empty() {
            let buffer = self.remove(0);
            self.machine.driver.mem_free(buffer.at)?;
            self.machine.forget(buffer);
        }
        let driver = self.machine.driver.clone();
        self.machine.end()?;
        self.kernels.unload(&driver)?;
        // SAFETY: allocated by `host_alloc`; nothing uses it any more.
        unsafe { driver.host_free(self.pinned.at.cast()) }
    }
}
