//! The program's operations on buffers: each one kernel or one copy, on a stream of its choice.
//!
//! An operation on a buffer without a whole word does nothing: files may be one byte long.

use crate::buffers::Id;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::job::{Job, RESULTS};
use crate::kernels::{Arg, Blend, Form, Kernel};
use crate::lanes::{Lane, Mark};
use cuda_client::DevicePtr;

/// How many inputs `cp_demo_fan_in` has.
pub const FAN_IN: usize = 15;

impl Job {
    fn lane(&mut self) -> Lane {
        Lane::random(&mut self.random)
    }

    fn span(&self, id: Id) -> Result<(DevicePtr, u64)> {
        let buffer = self.buffers.get(id)?;
        Ok((buffer.at, buffer.words()))
    }

    fn launch(
        &mut self,
        kernel: Kernel,
        lane: Lane,
        reads: &[Id],
        out: Id,
        words: u64,
        args: &[Arg],
    ) -> Result<()> {
        if words == 0 {
            return Ok(());
        }
        self.counts.launches += 1;
        let form = self.random.pick(&[Form::Pointers, Form::Packed, Form::Config]);
        let form = form.unwrap_or(Form::Pointers);
        let what = format!("launch {kernel:?}");
        self.submit(&what, lane, reads, &[out], |to| {
            to.kernels.launch(to.driver, kernel, words, args, form, to.stream)
        })?;
        if kernel == Kernel::Digest { Ok(()) } else { self.numbers(lane, out, words) }
    }

    /// What a kernel has made of the start of `out`, as numbers of a tensor: arithmetic on words
    /// leaves noise, which no job holds and nothing compresses.
    fn numbers(&mut self, lane: Lane, out: Id, words: u64) -> Result<()> {
        let (at, _) = self.span(out)?;
        self.counts.launches += 1;
        self.submit("launch Numbers", lane, &[], &[out], |to| {
            let args = [Arg::Wide(at), Arg::Wide(words)];
            to.kernels.launch(to.driver, Kernel::Numbers, words, &args, Form::Pointers, to.stream)
        })?;
        Ok(())
    }

    /// Random numbers everywhere.
    pub fn fill(&mut self, out: Id) -> Result<()> {
        let (at, words) = self.span(out)?;
        let (lane, seed) = (self.lane(), self.random.next() as u32);
        let args = [Arg::Wide(at), Arg::Wide(words), Arg::Word(seed)];
        self.launch(Kernel::Fill, lane, &[], out, words, &args)?;
        self.zero_tail(out)
    }

    /// Bytes behind the last whole word, which no kernel writes.
    fn zero_tail(&mut self, out: Id) -> Result<()> {
        let buffer = self.buffers.get(out)?;
        let rest = buffer.bytes % 4;
        let tail = buffer.at + (buffer.bytes - rest) as u64;
        if rest > 0 {
            self.set(out, tail, rest, 0)?;
        }
        Ok(())
    }

    fn set(&mut self, out: Id, at: DevicePtr, bytes: usize, value: u8) -> Result<()> {
        let lane = self.lane();
        self.counts.copies += 1;
        self.submit("set memory", lane, &[], &[out], |to| {
            to.driver.set_d8_async(at, value, bytes, to.stream)
        })?;
        Ok(())
    }

    /// One byte value everywhere.
    pub fn set_all(&mut self, out: Id, value: u8) -> Result<()> {
        let buffer = self.buffers.get(out)?;
        self.set(out, buffer.at, buffer.bytes, value)
    }

    /// `out = 3 out + a x`, `x` repeated.
    pub fn axpy(&mut self, out: Id, x: Id) -> Result<()> {
        let ((at, words), (x_at, x_words)) = (self.span(out)?, self.span(x)?);
        if x_words == 0 || x == out {
            return Ok(());
        }
        let (lane, a) = (self.lane(), self.random.next() as u32);
        let args =
            [Arg::Wide(at), Arg::Wide(words), Arg::Wide(x_at), Arg::Wide(x_words), Arg::Word(a)];
        self.launch(Kernel::Axpy, lane, &[x], out, words, &args)
    }

    /// A rotation and an XOR in place.
    pub fn rotate(&mut self, out: Id) -> Result<()> {
        let (at, words) = self.span(out)?;
        let (lane, random) = (self.lane(), self.random.next());
        let (by, key) = ((random >> 32) as u32 % 32, random as u32);
        let args = [Arg::Wide(at), Arg::Wide(words), Arg::Word(by), Arg::Word(key)];
        self.launch(Kernel::Rotate, lane, &[], out, words, &args)
    }

    /// The start of `out` becomes a mix of `a` and `b`, all pointers in one structure.
    pub fn blend(&mut self, out: Id, a: Id, b: Id) -> Result<()> {
        let (at, words) = self.span(out)?;
        let ((a_at, a_words), (b_at, b_words)) = (self.span(a)?, self.span(b)?);
        let words = words.min(a_words);
        if words == 0 || b_words == 0 || a == out || b == out {
            return Ok(());
        }
        let (lane, random) = (self.lane(), self.random.next());
        let (key, shift) = (random as u32, (random >> 40) as u8 % 32);
        let args = Blend { key, a: a_at, b: b_at, b_words, out: at, words, shift };
        self.counts.launches += 1;
        self.submit("launch Blend", lane, &[a, b], &[out], |to| {
            to.kernels.blend(to.driver, args, to.stream)
        })?;
        self.numbers(lane, out, words)
    }

    /// The start of `out` takes in [`FAN_IN`] buffers: sixteen pointers in one launch.
    pub fn fan_in(&mut self, out: Id, inputs: &[Id]) -> Result<()> {
        if inputs.len() != FAN_IN || inputs.contains(&out) {
            return Ok(());
        }
        let (at, mut words) = self.span(out)?;
        let mut args = vec![Arg::Wide(at), Arg::Wide(0)];
        for &input in inputs {
            let (input_at, input_words) = self.span(input)?;
            words = words.min(input_words);
            args.push(Arg::Wide(input_at));
        }
        args[1] = Arg::Wide(words);
        let lane = self.lane();
        self.launch(Kernel::FanIn, lane, inputs, out, words, &args)
    }

    /// Lists `rows` in device memory and adds them up into `out`.
    pub fn gather(&mut self, out: Id, rows: &[Id]) -> Result<()> {
        let Some(table) = self.random.pick(&self.tables) else { return Ok(()) };
        let mut listed = Vec::new();
        for &row in rows {
            let (at, words) = self.span(row)?;
            if words == 0 || row == out {
                return Ok(());
            }
            listed.extend_from_slice(&[at, words]);
        }
        let ((table_at, table_words), (at, words)) = (self.span(table)?, self.span(out)?);
        if listed.is_empty() || table_words < 2 * listed.len() as u64 {
            return Ok(());
        }
        self.counts.copies += 1;
        self.submit("list the rows", Lane::LEGACY, &[], &[table], |to| {
            to.driver.upload(table_at, &listed)
        })?;
        let lane = self.lane();
        let count = rows.len() as u32;
        let args = [Arg::Wide(at), Arg::Wide(words), Arg::Wide(table_at), Arg::Word(count)];
        let reads: Vec<Id> = rows.iter().copied().chain([table]).collect();
        self.launch(Kernel::Gather, lane, &reads, out, words, &args)
    }

    /// Puts `shared` where kernels find it through a module global.
    pub fn share(&mut self, shared: Id) -> Result<()> {
        let (at, words) = self.span(shared)?;
        if words == 0 {
            return Err(Error::new("the shared buffer holds no word"));
        }
        let global = self.kernels.shared_row(&self.driver)?;
        // Kernels that use the old row may still run, on any stream.
        self.lanes.wait_all(&self.driver)?;
        self.counts.copies += 1;
        self.submit("set the shared row", Lane::LEGACY, &[shared], &[], |to| {
            to.driver.upload(global, &[at, words])
        })?;
        self.lanes.wait_all(&self.driver)
    }

    /// Adds the buffer that was shared last.
    pub fn add_shared(&mut self, out: Id, shared: Id) -> Result<()> {
        let (at, words) = self.span(out)?;
        if out == shared {
            return Ok(());
        }
        let lane = self.lane();
        let args = [Arg::Wide(at), Arg::Wide(words)];
        self.launch(Kernel::FromGlobal, lane, &[shared], out, words, &args)
    }

    /// Copies as much of `from` as fits, both from random places, device to device.
    pub fn copy(&mut self, out: Id, from: Id) -> Result<()> {
        let (to_at, to_bytes) = (self.buffers.get(out)?.at, self.buffers.get(out)?.bytes);
        let (from_at, from_bytes) = (self.buffers.get(from)?.at, self.buffers.get(from)?.bytes);
        if out == from {
            return Ok(());
        }
        let bytes = to_bytes.min(from_bytes);
        let to_at = to_at + self.random.below(to_bytes - bytes + 1) as u64;
        let from_at = from_at + self.random.below(from_bytes - bytes + 1) as u64;
        let lane = self.lane();
        self.counts.copies += 1;
        self.submit("copy on the device", lane, &[from], &[out], |to| {
            to.driver.copy_d2d_async(to_at, from_at, bytes, to.stream)
        })?;
        Ok(())
    }

    /// The digest of every buffer as the device sees it, by buffer. Waits for everything.
    pub fn digests(&mut self) -> Result<Vec<(Id, u64)>> {
        let mut ids = self.buffers.ids();
        // Addresses differ from run to run.
        ids.retain(|id| !self.results.contains(id) && !self.tables.contains(id));
        let mut order: Vec<usize> = (0..ids.len()).collect();
        self.random.shuffle(&mut order);
        let mut sums = vec![0u64; ids.len()];
        for round in order.chunks(RESULTS) {
            let results = self.results.clone();
            for &result in &results {
                self.set_all(result, 0)?;
            }
            for (place, &i) in (0u64..).zip(round) {
                let lane = self.lane();
                let (at, words) = self.span(ids[i])?;
                let result = results[lane.index()];
                let sum = self.buffers.get(result)?.at + 8 * place;
                let args = [Arg::Wide(at), Arg::Wide(words), Arg::Wide(sum)];
                self.launch(Kernel::Digest, lane, &[ids[i]], result, words, &args)?;
            }
            for &result in &results {
                let from = self.buffers.get(result)?.at;
                let mut partial = vec![0u64; round.len()];
                self.counts.copies += 1;
                self.submit("read the digests", Lane::LEGACY, &[result], &[], |to| {
                    to.driver.download(&mut partial, from)
                })?;
                for (&i, part) in round.iter().zip(&partial) {
                    sums[i] = sums[i].wrapping_add(*part);
                }
            }
        }
        self.lanes.wait_all(&self.driver)?;
        Ok(ids.into_iter().zip(sums).collect())
    }

    /// One digest over all of [`Job::digests`] and the sizes.
    pub fn fold(&self, digests: &[(Id, u64)]) -> Result<Digest> {
        let mut all = Digest::EMPTY;
        for &(id, sum) in digests {
            all.word(self.buffers.get(id)?.bytes as u64);
            all.word(sum);
        }
        Ok(all)
    }

    /// Waits on the host for `mark`, by polling one time in four.
    pub fn wait(&mut self, mark: Mark) -> Result<()> {
        let query = self.random.one_in(4);
        self.lanes.wait(&self.driver, mark, query)
    }
}
