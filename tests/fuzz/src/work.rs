//! The steps that read and write what buffers hold: kernels, copies, fills. Each does to the model
//! what it asks the driver to do to the buffer, and orders itself after what it conflicts with.

use crate::check::Result;
use crate::kernels::{Arg, BlendArgs, Form, Kernel};
use crate::machine::Lane;
use crate::program::{Place, Program};
use crate::reference;
use cuda_client::Stream;

/// Inputs of the kernel that takes sixteen pointers.
const FAN_IN: usize = 15;

impl Program {
    pub(crate) fn before(&mut self, lane: Lane, reads: &[usize], writes: &[usize]) -> Result {
        for &i in reads {
            self.machine.before(lane, &self.buffers[i], false)?;
        }
        for &i in writes {
            self.machine.before(lane, &self.buffers[i], true)?;
        }
        Ok(())
    }

    pub(crate) fn after(&mut self, lane: Lane, reads: &[usize], writes: &[usize]) -> Result {
        for &i in reads.iter().filter(|i| !writes.contains(i)) {
            self.machine.after(lane, &mut self.buffers[i], false)?;
        }
        for &i in writes {
            self.machine.after(lane, &mut self.buffers[i], true)?;
        }
        Ok(())
    }

    /// Launches a kernel with one thread a word, in any form, on any stream.
    fn launch(
        &mut self,
        kernel: Kernel,
        words: u64,
        out: usize,
        reads: &[usize],
        args: &[Arg],
    ) -> Result {
        let lane = self.lane()?;
        self.launch_on(lane, kernel, words, out, reads, args)
    }

    fn launch_on(
        &mut self,
        lane: Lane,
        kernel: Kernel,
        words: u64,
        out: usize,
        reads: &[usize],
        args: &[Arg],
    ) -> Result {
        let form = Form::ALL[self.rng.below(Form::ALL.len())];
        self.before(lane, reads, &[out])?;
        let (driver, kernels) = (&self.machine.driver, &self.machine.cards[lane.card].kernels);
        kernels.launch(driver, kernel, form, lane.stream, words as usize, args)?;
        self.outcome.launches += 1;
        self.after(lane, reads, &[out])
    }

    fn model(&self, i: usize) -> Vec<u32> {
        self.buffers[i].model.clone()
    }

    /// A piece of a buffer: its first word and its length.
    fn piece(&mut self, i: usize) -> (usize, usize) {
        let words = self.buffers[i].model.len();
        if self.rng.once_in(2) {
            return (0, words);
        }
        let first = self.rng.below(words);
        (first, 1 + self.rng.below(words - first))
    }

    pub(crate) fn kernel(&mut self) -> Result {
        let Some(out) = self.target() else { return Ok(()) };
        let (at, words) = (self.buffers[out].at, self.buffers[out].model.len() as u64);
        let seed = self.rng.next() as u32;
        match self.rng.below(8) {
            0 => {
                // A pointer into the middle keeps its buffer just as well.
                let (first, some) = self.piece(out);
                let from = at + first as u64 * 4;
                let args = [Arg::Wide(from), Arg::Wide(some as u64), Arg::Narrow(seed)];
                self.launch(Kernel::Fill, some as u64, out, &[], &args)?;
                reference::fill(&mut self.buffers[out].model[first..first + some], seed);
            }
            1 => {
                let Some(x) = self.pick().filter(|&x| x != out) else { return Ok(()) };
                let from = self.model(x);
                let x_words = from.len() as u64;
                let args = [at, words, self.buffers[x].at, x_words].map(Arg::Wide);
                let args = [&args[..], &[Arg::Narrow(seed)]].concat();
                self.launch(Kernel::Axpy, words, out, &[x], &args)?;
                reference::axpy(&mut self.buffers[out].model, &from, seed);
            }
            2 => {
                let by = seed >> 27;
                let args = [Arg::Wide(at), Arg::Wide(words), Arg::Narrow(by), Arg::Narrow(seed)];
                self.launch(Kernel::Rotate, words, out, &[], &args)?;
                reference::rotate(&mut self.buffers[out].model, by, seed);
            }
            3 | 4 => return self.gather(out),
            5 => return self.fan_in(out),
            6 => return self.blend(out, seed),
            _ => {
                let lane = self.lane()?;
                let shared = self.machine.cards[lane.card].shared.filter(|&s| s != out);
                let Some(shared) = shared else { return Ok(()) };
                let from = self.model(shared);
                let args = [at, words].map(Arg::Wide);
                self.launch_on(lane, Kernel::FromGlobal, words, out, &[shared], &args)?;
                reference::from_global(&mut self.buffers[out].model, &from);
            }
        }
        Ok(())
    }

    fn fan_in(&mut self, out: usize) -> Result {
        let (at, words) = (self.buffers[out].at, self.buffers[out].model.len());
        let long: Vec<usize> = (0..self.buffers.len())
            .filter(|&i| i != out && self.buffers[i].model.len() >= words)
            .collect();
        if long.is_empty() {
            return Ok(());
        }
        let inputs: Vec<usize> = (0..FAN_IN).map(|_| long[self.rng.below(long.len())]).collect();
        let models: Vec<Vec<u32>> = inputs.iter().map(|&i| self.model(i)).collect();
        let mut args = vec![Arg::Wide(at), Arg::Wide(words as u64)];
        args.extend(inputs.iter().map(|&i| Arg::Wide(self.buffers[i].at)));
        self.launch(Kernel::FanIn, words as u64, out, &inputs, &args)?;
        reference::fan_in(&mut self.buffers[out].model, &models);
        Ok(())
    }

    fn gather(&mut self, out: usize) -> Result {
        if self.tables.is_empty() {
            return Ok(());
        }
        let table = self.tables[self.rng.below(self.tables.len())].clone();
        if table.rows.contains(&out) {
            return Ok(());
        }
        let models: Vec<Vec<u32>> = table.rows.iter().map(|&r| self.model(r)).collect();
        let mut reads = table.rows.clone();
        let place = match table.at {
            Place::Buffer(i) => {
                reads.push(i);
                self.buffers[i].at
            }
            Place::Host(at) => at,
        };
        let words = self.buffers[out].model.len() as u64;
        let args = [self.buffers[out].at, words, place].map(Arg::Wide);
        let args = [&args[..], &[Arg::Narrow(table.rows.len() as u32)]].concat();
        self.launch(Kernel::Gather, words, out, &reads, &args)?;
        reference::gather(&mut self.buffers[out].model, &models);
        Ok(())
    }

    fn blend(&mut self, out: usize, key: u32) -> Result {
        let words = self.buffers[out].model.len();
        let (Some(a), Some(b)) = (self.pick(), self.pick()) else { return Ok(()) };
        if a == out || b == out || self.buffers[a].model.len() < words {
            return Ok(());
        }
        let (model_a, model_b) = (self.model(a), self.model(b));
        let args = BlendArgs {
            key,
            a: self.buffers[a].at,
            b: self.buffers[b].at,
            b_words: model_b.len() as u64,
            out: self.buffers[out].at,
            words: words as u64,
            shift: (key >> 9) as u8 & 31,
        };
        self.launch(Kernel::Blend, words as u64, out, &[a, b], &[Arg::Blend(args)])?;
        let out = &mut self.buffers[out].model;
        reference::blend(out, key, &model_a, &model_b, args.shift.into());
        Ok(())
    }

    pub(crate) fn upload(&mut self) -> Result {
        let Some(i) = self.target() else { return Ok(()) };
        let (first, words) = self.piece(i);
        let base = self.rng.next() as u32;
        let data: Vec<u32> = match self.rng.below(3) {
            // One value, as fresh buffers of real programs have: a page worth no memory at all.
            0 => vec![base; words],
            _ => (0..words as u32).map(|w| base.wrapping_mul(w | 1) ^ w).collect(),
        };
        let at = self.buffers[i].at + first as u64 * 4;
        let lane = self.lane()?;
        let stream = lane.stream;
        self.before(lane, &[], &[i])?;
        if stream == Stream::LEGACY {
            self.machine.driver.upload(at, &data)?;
        } else {
            // SAFETY: pageable memory has been read when the call returns.
            unsafe {
                self.machine.driver.copy_h2d_async(at, data.as_ptr().cast(), words * 4, stream)
            }?;
        }
        self.after(lane, &[], &[i])?;
        self.buffers[i].model[first..first + words].copy_from_slice(&data);
        Ok(())
    }

    pub(crate) fn download(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let (first, words) = self.piece(i);
        let at = self.buffers[i].at + first as u64 * 4;
        if self.rng.once_in(2) || self.pinned.used + words > self.pinned.words {
            return self.compare(i);
        }
        let lane = self.lane()?;
        let stream = lane.stream;
        self.before(lane, &[i], &[])?;
        let slot = self.pinned.used;
        // SAFETY: the slot is ours and nobody else's until the next check.
        unsafe {
            let to = self.pinned.at.add(slot).cast();
            self.machine.driver.copy_d2h_async(to, at, words * 4, stream)
        }?;
        self.after(lane, &[i], &[])?;
        self.pinned.used += words;
        let expected = self.buffers[i].model[first..first + words].to_vec();
        self.pinned.expected.push((slot, expected));
        Ok(())
    }

    pub(crate) fn copy(&mut self) -> Result {
        let (Some(to), Some(from)) = (self.target(), self.pick()) else { return Ok(()) };
        if to == from {
            return Ok(());
        }
        let (read, write) = (self.piece(from), self.piece(to));
        let n = read.1.min(write.1);
        let lane = self.lane()?;
        let stream = lane.stream;
        self.before(lane, &[from], &[to])?;
        let dst = self.buffers[to].at + write.0 as u64 * 4;
        let src = self.buffers[from].at + read.0 as u64 * 4;
        let (driver, bytes) = (&self.machine.driver, n * 4);
        let cards = &self.machine.cards;
        let across = (
            (dst, cards[self.buffers[to].card].context),
            (src, cards[self.buffers[from].card].context),
        );
        let far = across.0.1 != across.1.1 && self.rng.once_in(2);
        match (stream == Stream::LEGACY && self.rng.once_in(2), far) {
            // Between cards the call is asynchronous even so: it is ordered as one of the lane's.
            (true, true) => driver.copy_peer(across.0, across.1, bytes)?,
            (true, false) => driver.copy_d2d(dst, src, bytes)?,
            (false, true) => driver.copy_peer_async(across.0, across.1, bytes, stream)?,
            (false, false) => driver.copy_d2d_async(dst, src, bytes, stream)?,
        }
        self.after(lane, &[from], &[to])?;
        let source = self.buffers[from].model[read.0..read.0 + n].to_vec();
        self.buffers[to].model[write.0..write.0 + n].copy_from_slice(&source);
        Ok(())
    }

    pub(crate) fn fill(&mut self) -> Result {
        let Some(i) = self.target() else { return Ok(()) };
        let (first, words) = self.piece(i);
        let at = self.buffers[i].at + first as u64 * 4;
        let byte = self.rng.next() as u8;
        let (value, by_bytes) = match self.rng.below(3) {
            0 => (0, false),
            1 => (u32::from_ne_bytes([byte; 4]), true),
            _ => (self.rng.next() as u32, false),
        };
        let lane = self.lane()?;
        let stream = lane.stream;
        self.before(lane, &[], &[i])?;
        let driver = &self.machine.driver;
        match (stream == Stream::LEGACY, by_bytes) {
            (true, true) => driver.set_d8(at, byte, words * 4)?,
            (true, false) => driver.set_d32(at, value, words)?,
            (false, true) => driver.set_d8_async(at, byte, words * 4, stream)?,
            (false, false) => driver.set_d32_async(at, value, words, stream)?,
        }
        self.after(lane, &[], &[i])?;
        self.buffers[i].model[first..first + words].fill(value);
        Ok(())
    }
}
