//! Buffers that belong to everybody. Whoever uses one holds its lock on the host, makes its stream
//! wait for the event of the last use and records the event again: the order of the locks is the
//! order on the device.

use crate::reference;
use crate::rng::Rng;
use crate::{Failure, World};
use cuda_client::{Code, DevicePtr, Driver, Event, Stream};
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};

const BUFFERS: usize = 6;
const WORDS: usize = 4096;
const NO_TIMING: u32 = 2;

/// One of them.
#[derive(Debug)]
pub struct Common {
    /// Its address.
    pub at: DevicePtr,
    /// What it must hold.
    pub model: Vec<u32>,
    last: Event,
}

/// All of them.
#[derive(Debug)]
pub struct Shared {
    buffers: Vec<Mutex<Common>>,
    addresses: Vec<AtomicU64>,
}

impl Shared {
    /// Makes them.
    pub fn new(driver: &Driver) -> Result<Shared, Code> {
        let (mut buffers, mut addresses) = (Vec::new(), Vec::new());
        for n in 0..BUFFERS {
            let (at, last) = (driver.mem_alloc(WORDS * 4)?, driver.event_create(NO_TIMING)?);
            let mut model = vec![0; WORDS];
            reference::fill(&mut model, n as u32);
            driver.upload(at, &model)?;
            buffers.push(Mutex::new(Common { at, model, last }));
            addresses.push(AtomicU64::new(at));
        }
        Ok(Shared { buffers, addresses })
    }

    /// An address that one of them has, or had a moment ago.
    pub fn somewhere(&self, rng: &mut Rng) -> DevicePtr {
        self.addresses[rng.below(BUFFERS)].load(Ordering::Relaxed)
    }

    fn lock(&self, n: usize) -> MutexGuard<'_, Common> {
        self.buffers[n].lock()
    }

    /// Uses one of them on `stream` after everybody before and before everybody after.
    pub fn with(
        &self,
        driver: &Driver,
        n: usize,
        stream: Stream,
        f: impl FnOnce(&mut Common) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut common = self.lock(n % BUFFERS);
        driver.stream_wait_event(stream, common.last)?;
        f(&mut common)?;
        driver.event_record(common.last, stream)?;
        self.addresses[n % BUFFERS].store(common.at, Ordering::Relaxed);
        Ok(())
    }

    /// Frees them; what they hold is checked a last time.
    pub fn end(&self, world: &World) -> Result<(), Failure> {
        for n in 0..BUFFERS {
            let common = self.lock(n);
            world.driver.event_synchronize(common.last)?;
            let found: Vec<u32> = world.driver.read(common.at, WORDS)?;
            compare("a shared buffer at the end", &found, &common.model)?;
            world.driver.mem_free(common.at)?;
            world.driver.event_destroy(common.last)?;
        }
        Ok(())
    }
}

/// Fails at the first word that is not what it must be.
pub fn compare(what: &str, found: &[u32], expected: &[u32]) -> Result<(), Failure> {
    let Some(at) = (0..expected.len()).find(|&i| found[i] != expected[i]) else { return Ok(()) };
    let wrong = (0..expected.len()).filter(|&i| found[i] != expected[i]).count();
    Err(Failure(format!(
        "{what}: {wrong} of {} words are wrong, the first at {at}: {:#010x} instead of {:#010x}",
        expected.len(),
        found[at],
        expected[at]
    )))
}
