//! What the program does, phase by phase. Sizes are shares of the footprint.
//!
//! No single operation names more than about an eighth of the footprint, however large that is:
//! pieces are at most a 32nd, and where many buffers meet in one launch, small ones are chosen.

use crate::buffers::Id;
use crate::corpus::Corpus;
use crate::digest::{Digest, kernel_digest};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::ops::FAN_IN;
use crate::options::Phase;

/// The tensors of the program.
#[derive(Debug)]
pub struct Workload {
    footprint: usize,
    corpus: Corpus,
    /// Weights of the model at work: tensors of the corpus.
    weights: Vec<Id>,
    /// Weights of the other model.
    idle: Vec<Id>,
    /// Optimizer state.
    moments: Vec<Id>,
    /// Small ones: norms, biases, tables.
    small: Vec<Id>,
    /// Reached by a module global.
    shared: Option<Id>,
    /// Held from forward to backward.
    activations: Vec<Id>,
    /// Comes and goes.
    scratch: Vec<Id>,
    /// Everything read back.
    read: Digest,
    /// How much that was.
    pub bytes_read: u64,
}

/// The largest buffer of a footprint.
pub fn largest(footprint: usize) -> usize {
    footprint / 32
}

impl Workload {
    /// A workload of about `footprint` bytes over `corpus`.
    pub fn new(footprint: usize, corpus: Corpus) -> Workload {
        Workload {
            footprint,
            corpus,
            weights: Vec::new(),
            idle: Vec::new(),
            moments: Vec::new(),
            small: Vec::new(),
            shared: None,
            activations: Vec::new(),
            scratch: Vec::new(),
            read: Digest::EMPTY,
            bytes_read: 0,
        }
    }

    /// Runs one phase. What it returns depends on all that was done so far.
    pub fn run(&mut self, job: &mut Job, phase: Phase) -> Result<Digest> {
        match phase {
            Phase::Load => self.load(job)?,
            Phase::Forward => self.forward(job)?,
            Phase::Swap => self.swap(job)?,
            Phase::Backward => self.backward(job)?,
            Phase::Churn => self.churn(job)?,
            Phase::Readback => return self.readback(job),
        }
        let digests = job.digests()?;
        job.fold(&digests)
    }

    fn load(&mut self, job: &mut Job) -> Result<()> {
        for _ in 0..3 * FAN_IN {
            let bytes = job.random.size(512, self.footprint / 2048);
            let id = job.allocate(bytes)?;
            job.fill(id)?;
            self.small.push(id);
        }
        let shared = job.allocate(self.footprint / 1024)?;
        job.fill(shared)?;
        job.share(shared)?;
        self.shared = Some(shared);

        // The corpus as it is, then again until the model has its quarter.
        let quarter = self.footprint / 4;
        let mut held = 0;
        for data in self.corpus.pieces.iter().cycle() {
            if held >= quarter {
                break;
            }
            let id = job.allocate(data.len())?;
            job.upload(id, data)?;
            held += data.len();
            self.weights.push(id);
        }
        // The other model: the same shapes; every second one the same contents too.
        for (i, from) in self.weights.clone().into_iter().enumerate() {
            let bytes = job.buffers.get(from)?.bytes;
            let id = job.allocate(bytes)?;
            job.copy(id, from)?;
            if i % 2 == 1 {
                job.rotate(id)?;
            }
            self.idle.push(id);
        }
        let mut held = 0;
        while held < quarter {
            let bytes = job.random.size(self.footprint / 256, largest(self.footprint));
            let id = job.allocate(bytes)?;
            job.set_all(id, 0)?;
            held += bytes;
            self.moments.push(id);
        }
        Ok(())
    }

    fn forward(&mut self, job: &mut Job) -> Result<()> {
        let mut held = 0;
        for (layer, weight) in self.weights.clone().into_iter().cycle().enumerate() {
            if held >= self.footprint / 4 {
                break;
            }
            let bytes = job.random.size(self.footprint / 1024, largest(self.footprint));
            let out = job.allocate(bytes)?;
            held += bytes;
            job.fill(out)?;
            job.axpy(out, weight)?;
            // Four chains side by side keep the streams apart.
            if let Some(&before) = self.activations.iter().rev().nth(3) {
                job.blend(out, weight, before)?;
            }
            self.mingle(job, out, layer)?;
            self.activations.push(out);
        }
        Ok(())
    }

    /// Now and then an operation over many buffers.
    fn mingle(&mut self, job: &mut Job, out: Id, step: usize) -> Result<()> {
        match step % 5 {
            0 => {
                let mut inputs = self.light(job, self.footprint / 160)?;
                job.random.shuffle(&mut inputs);
                inputs.truncate(FAN_IN);
                job.fan_in(out, &inputs)
            }
            1 => {
                let mut rows = self.light(job, self.footprint / 64)?;
                job.random.shuffle(&mut rows);
                rows.truncate(1 + job.random.below(6));
                job.gather(out, &rows)
            }
            2 => match self.shared {
                Some(shared) => job.add_shared(out, shared),
                None => Ok(()),
            },
            3 => match job.random.pick(&self.weights) {
                Some(weight) => job.copy(out, weight),
                None => Ok(()),
            },
            _ => job.rotate(out),
        }
    }

    /// Weights and small buffers of at most `bytes`.
    fn light(&self, job: &Job, bytes: usize) -> Result<Vec<Id>> {
        let mut light = Vec::new();
        for &id in self.weights.iter().chain(&self.small) {
            if job.buffers.get(id)?.bytes <= bytes {
                light.push(id);
            }
        }
        Ok(light)
    }

    fn swap(&mut self, job: &mut Job) -> Result<()> {
        // The first model waits on the host, as far as it goes; the second one works meanwhile.
        let mut order = self.weights.clone();
        job.random.shuffle(&mut order);
        let leaving = &order[..order.len() / 3];
        let mut kept = Vec::new();
        for &id in leaving {
            kept.push((id, job.download(id)?));
            job.free(id)?;
        }
        let mut idle = self.idle.clone();
        job.random.shuffle(&mut idle);
        for pair in idle.chunks(2) {
            job.rotate(pair[0])?;
            if let [a, b] = *pair {
                job.axpy(b, a)?;
            }
        }
        for (old, data) in kept {
            let id = job.allocate(data.len())?;
            job.upload(id, &data)?;
            if let Some(place) = self.weights.iter_mut().find(|w| **w == old) {
                *place = id;
            }
        }
        Ok(())
    }

    fn backward(&mut self, job: &mut Job) -> Result<()> {
        let mut step = 0;
        while let Some(activation) = self.activations.pop() {
            let weight = self.weights[step % self.weights.len()];
            let moment = self.moments[step % self.moments.len()];
            job.axpy(moment, activation)?;
            job.axpy(weight, moment)?;
            if step % 3 == 0 {
                self.mingle(job, weight, step / 3)?;
            }
            job.free(activation)?;
            step += 1;
        }
        Ok(())
    }

    fn churn(&mut self, job: &mut Job) -> Result<()> {
        let quarter = self.footprint / 4;
        let mut held = 0;
        for step in 0..160 {
            while held > quarter || (self.scratch.len() > 8 && job.random.one_in(3)) {
                let id = self.scratch.swap_remove(job.random.below(self.scratch.len()));
                held -= job.buffers.get(id)?.bytes;
                job.free(id)?;
            }
            let bytes = job.random.size(64, largest(self.footprint));
            let id = job.allocate(bytes)?;
            held += bytes;
            if step % 2 == 0 {
                let piece = &self.corpus.pieces[job.random.below(self.corpus.pieces.len())];
                job.set_all(id, 0x5C)?;
                job.upload(id, &piece[..piece.len().min(bytes)])?;
            } else {
                job.fill(id)?;
            }
            self.mingle(job, id, step)?;
            if let Some(other) = job.random.pick(&self.scratch) {
                job.axpy(other, id)?;
            }
            self.scratch.push(id);
        }
        Ok(())
    }

    /// Reads everything back and checks it against what the device saw just before.
    fn readback(&mut self, job: &mut Job) -> Result<Digest> {
        let digests = job.digests()?;
        let mut order: Vec<usize> = (0..digests.len()).collect();
        job.random.shuffle(&mut order);
        let mut folded = vec![0; digests.len()];
        for i in order {
            let (id, expected) = digests[i];
            let bytes = job.download(id)?;
            if kernel_digest(&bytes) != expected {
                return Err(Error::new(format!(
                    "a buffer of {} bytes read back differs from what the device holds",
                    bytes.len()
                )));
            }
            let mut digest = Digest::EMPTY;
            digest.bytes(&bytes);
            folded[i] = digest.value();
            self.bytes_read += bytes.len() as u64;
        }
        folded.into_iter().for_each(|value| self.read.word(value));
        Ok(self.read)
    }
}
