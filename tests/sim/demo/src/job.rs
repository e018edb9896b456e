//! The running program: the driver, its streams and buffers, and submitting work in order.

use crate::buffers::{Buffers, Id};
use crate::error::{During, Result};
use crate::kernels::Kernels;
use crate::lanes::{LANES, Lane, Lanes, Mark};
use crate::random::Random;
use crate::staging::Staging;
use cuda_client::{Device, Driver, Stream};

/// Everything a phase needs.
#[derive(Debug)]
pub struct Job {
    /// The driver.
    pub driver: Driver,
    /// Its kernels.
    pub kernels: Kernels,
    /// Streams.
    pub lanes: Lanes,
    /// Device memory.
    pub buffers: Buffers,
    /// Pinned memory.
    pub staging: Staging,
    /// Every choice.
    pub random: Random,
    /// Work submitted.
    pub counts: Counts,
    /// Name of the card.
    pub card: String,
    /// Where the digest kernels of each stream put their sums.
    pub results: Vec<Id>,
    /// Lists of pointers in device memory.
    pub tables: Vec<Id>,
    device: Device,
}

/// How much was asked of the driver.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Kernels.
    pub launches: u64,
    /// Copies and memsets.
    pub copies: u64,
    /// Allocations.
    pub allocations: u64,
}

/// Sums in one results buffer.
pub const RESULTS: usize = 1024;

const TABLES: usize = 4;
const TABLE_BYTES: usize = 1024;

/// What a piece of work hands to the driver.
#[derive(Debug)]
pub struct Submit<'a> {
    /// The driver.
    pub driver: &'a Driver,
    /// The kernels.
    pub kernels: &'a Kernels,
    /// Where to.
    pub stream: Stream,
}

impl Job {
    /// Starts the driver; buffers will be at most `largest` bytes.
    pub fn start(seed: u64, largest: usize) -> Result<Job> {
        let driver = Driver::load().during("load libcuda.so.1")?;
        let (device, _) = driver.start(0).during("start the first device")?;
        let card = driver.device_name(device).during("name the device")?;
        let kernels = Kernels::load(&driver)?;
        let lanes = Lanes::create(&driver)?;
        let staging = Staging::create(&driver, largest)?;
        let mut job = Job {
            driver,
            kernels,
            lanes,
            buffers: Buffers::default(),
            staging,
            random: Random::new(seed),
            counts: Counts::default(),
            card,
            results: Vec::new(),
            tables: Vec::new(),
            device,
        };
        for _ in 0..LANES {
            let id = job.allocate(RESULTS * 8)?;
            job.results.push(id);
        }
        for _ in 0..TABLES {
            let id = job.allocate(TABLE_BYTES)?;
            job.tables.push(id);
        }
        Ok(job)
    }

    /// Frees everything, so that a leak in what is left is somebody else's.
    pub fn finish(mut self) -> Result<()> {
        for id in self.buffers.ids() {
            self.free(id)?;
        }
        self.lanes.wait_all(&self.driver)?;
        self.staging.destroy(&self.driver)?;
        self.lanes.destroy(&self.driver)?;
        self.kernels.unload(&self.driver)?;
        self.driver.primary_release(self.device).during("release the device")
    }

    /// Submits `work` to `lane` after everything it depends on.
    pub fn submit(
        &mut self,
        what: &str,
        lane: Lane,
        reads: &[Id],
        writes: &[Id],
        work: impl FnOnce(Submit<'_>) -> cuda_client::Result<()>,
    ) -> Result<Mark> {
        for &id in reads {
            self.lanes.order(&self.driver, lane, self.buffers.get(id)?.before_read())?;
        }
        for &id in writes {
            for mark in self.buffers.get(id)?.before_write() {
                self.lanes.order(&self.driver, lane, mark)?;
            }
        }
        let stream = self.lanes.stream(lane);
        work(Submit { driver: &self.driver, kernels: &self.kernels, stream }).during(what)?;
        let mark = self.lanes.submitted(lane);
        reads.iter().for_each(|&id| self.buffers.was_read(id, lane, mark));
        writes.iter().for_each(|&id| self.buffers.was_written(id, mark));
        Ok(mark)
    }

    /// Allocates with `cuMemAlloc` or, as often, in a stream's order.
    pub fn allocate(&mut self, bytes: usize) -> Result<Id> {
        self.counts.allocations += 1;
        let what = || format!("allocate {bytes} bytes");
        if self.random.one_in(2) {
            let at = self.driver.mem_alloc(bytes).during(what())?;
            return Ok(self.buffers.add(at, bytes, Mark::NEVER));
        }
        let lane = Lane::random(&mut self.random);
        let stream = self.lanes.stream(lane);
        let at = self.driver.mem_alloc_async(bytes, stream).during(what())?;
        let mark = self.lanes.submitted(lane);
        Ok(self.buffers.add(at, bytes, mark))
    }

    /// Frees with `cuMemFree`, which waits for work that uses the buffer, or in a stream's order.
    pub fn free(&mut self, id: Id) -> Result<()> {
        let buffer = self.buffers.take(id)?;
        if self.random.one_in(2) {
            return self.driver.mem_free(buffer.at).during("free");
        }
        let lane = Lane::random(&mut self.random);
        for mark in buffer.before_write() {
            self.lanes.order(&self.driver, lane, mark)?;
        }
        let stream = self.lanes.stream(lane);
        self.driver.mem_free_async(buffer.at, stream).during("free in stream order")?;
        self.lanes.submitted(lane);
        Ok(())
    }
}
