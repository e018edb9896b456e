//! One worker: its streams, its buffers and what they must hold.
//!
//! A buffer has a home, the stream that used it last; whoever uses it next on another stream lets
//! that one wait for the home first. So everything on one buffer is ordered and everything else
//! is free.

use crate::coldpress::What;
use crate::kernels::{Arg, Form, Kernel};
use crate::reference;
use crate::rng::Rng;
use crate::shared::compare;
use crate::{Failure, World};
use cuda_client::{Code, DevicePtr, Driver, Event, Stream};
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Bytes a worker holds at most.
const BUDGET: usize = 320 << 10;
/// Streams a worker makes at most.
const STREAMS: usize = 4;
/// Steps a worker makes at least, however little time there is.
const AT_LEAST: u64 = 60;

type Result<T = ()> = std::result::Result<T, Failure>;

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds another thread's.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, concat!(stringify!($name), "={} "), self.$name)?;)*
                Ok(())
            }
        }
    };
}

counts! {
    /// Steps of the workers.
    steps,
    /// Allocations that succeeded.
    allocations,
    /// Allocations that the driver refused.
    refused,
    /// Frees.
    frees,
    /// Kernels.
    launches,
    /// Uses of buffers that belong to everybody.
    meetings,
    /// Copies and fills.
    copies,
    /// Buffers read back and compared.
    checks,
    /// Streams made.
    streams,
    /// What the controlling thread asked for.
    orders,
    /// Times coldpress was turned off or on.
    switches,
    /// Blocks that coldpress evicted.
    evictions,
    /// Blocks that it restored.
    restores,
}

#[derive(Debug)]
struct Own {
    at: DevicePtr,
    model: Vec<u32>,
    home: Stream,
}

/// A worker.
#[derive(Debug)]
pub struct Worker<'a> {
    world: &'a World,
    driver: &'a Driver,
    rng: Rng,
    /// The first is the default stream, as this worker's driver means it.
    streams: Vec<Stream>,
    buffers: Vec<Own>,
    held: usize,
    event: Event,
    counts: Counts,
    doing: Doing,
}

/// The step a worker is at, for the message of a failure.
#[derive(Clone, Copy, Debug, Default)]
struct Doing {
    choice: usize,
    at: DevicePtr,
    words: usize,
    home: usize,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doing { choice, at, words, home } = self;
        write!(f, "step {choice} on {words} words at {at:#x}, last on stream {home:#x}")
    }
}

impl<'a> Worker<'a> {
    /// The worker `n`.
    pub fn new(world: &'a World, n: usize, seed: u64) -> Result<Worker<'a>> {
        let driver = if n.is_multiple_of(2) { &world.driver } else { &world.per_thread };
        driver.ctx_set_current(world.context)?;
        let rng = Rng::new(seed.wrapping_mul(1000) + n as u64);
        let event = driver.event_create(2)?;
        let (streams, buffers) = (vec![Stream::NULL], Vec::new());
        let counts = Counts::default();
        let doing = Doing::default();
        Ok(Worker { world, driver, rng, streams, buffers, held: 0, event, counts, doing })
    }

    /// Works until `deadline`, then checks and gives back everything.
    pub fn run(&mut self, deadline: Instant) -> Result<Counts> {
        while !self.world.stop.load(Ordering::Relaxed)
            && (Instant::now() < deadline || self.counts.steps < AT_LEAST)
        {
            self.step().map_err(|Failure(why)| Failure(format!("{}: {why}", self.doing)))?;
            self.counts.steps += 1;
            self.world.steps.fetch_add(1, Ordering::Relaxed);
        }
        while !self.buffers.is_empty() {
            self.check(0)?;
            self.free(0)?;
            self.world.steps.fetch_add(1, Ordering::Relaxed);
        }
        for stream in self.streams.drain(1..) {
            self.driver.stream_destroy(stream)?;
        }
        self.driver.event_destroy(self.event)?;
        Ok(self.counts)
    }

    fn step(&mut self) -> Result {
        if self.buffers.len() < 3 {
            return self.allocate();
        }
        let which = self.rng.below(self.buffers.len());
        let own = &self.buffers[which];
        let (at, words, home) = (own.at, own.model.len(), own.home.0);
        let choice = self.rng.below(32);
        self.doing = Doing { choice, at, words, home };
        match choice {
            0..5 => self.allocate(),
            5..9 => {
                if self.rng.once_in(2) {
                    self.check(which)?;
                }
                self.free(which)
            }
            9..14 => self.rotate(which),
            14..18 => self.add(which),
            18..22 => self.meet(which),
            22..24 => self.upload(which),
            24 => self.set(which),
            25 => self.copy(which),
            26..28 => self.check(which),
            28..30 => self.change_streams(),
            30 => self.advise(which),
            _ => Ok(self.driver.stream_synchronize(self.streams[0])?),
        }
    }

    fn stream(&mut self) -> Stream {
        self.streams[self.rng.below(self.streams.len())]
    }

    /// `stream` is the next to use the buffer.
    fn order(&mut self, which: usize, stream: Stream) -> Result {
        let home = std::mem::replace(&mut self.buffers[which].home, stream);
        if home != stream {
            self.driver.event_record(self.event, home)?;
            self.driver.stream_wait_event(stream, self.event)?;
        }
        Ok(())
    }

    fn allocate(&mut self) -> Result {
        let words = match self.rng.below(8) {
            0..2 => 1 + self.rng.below(120),
            2..5 => 256 + self.rng.below(2048),
            5..7 => 4096 + self.rng.below(4096),
            _ => 12_000 + self.rng.below(8192),
        };
        if self.held + words * 4 > BUDGET {
            let which = self.rng.below(self.buffers.len());
            return self.free(which);
        }
        let stream = self.stream();
        let made = match self.rng.below(2) {
            0 => self.driver.mem_alloc(words * 4),
            _ => self.driver.mem_alloc_async(words * 4, stream),
        };
        let at = match made {
            Ok(at) => at,
            Err(Code::OUT_OF_MEMORY) => {
                self.counts.refused += 1;
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        self.counts.allocations += 1;
        self.held += words * 4;
        let seed = self.rng.next() as u32;
        let mut model = vec![0; words];
        reference::fill(&mut model, seed);
        self.buffers.push(Own { at, model, home: stream });
        let args = [Arg::Wide(at), Arg::Wide(words as u64), Arg::Narrow(seed)];
        self.launch(Kernel::Fill, stream, words, &args)
    }

    fn free(&mut self, which: usize) -> Result {
        let own = self.buffers.swap_remove(which);
        self.held -= own.model.len() * 4;
        self.counts.frees += 1;
        match self.rng.below(2) {
            0 => Ok(self.driver.mem_free(own.at)?),
            _ => Ok(self.driver.mem_free_async(own.at, own.home)?),
        }
    }

    fn launch(&mut self, kernel: Kernel, stream: Stream, words: usize, args: &[Arg]) -> Result {
        let form = Form::ALL[self.rng.below(Form::ALL.len())];
        self.counts.launches += 1;
        Ok(self.world.kernels.launch(self.driver, kernel, form, stream, words, args)?)
    }

    fn rotate(&mut self, which: usize) -> Result {
        let stream = self.stream();
        self.order(which, stream)?;
        let (by, key) = (self.rng.below(32) as u32, self.rng.next() as u32);
        let own = &mut self.buffers[which];
        reference::rotate(&mut own.model, by, key);
        let (at, words) = (own.at, own.model.len());
        let args = [Arg::Wide(at), Arg::Wide(words as u64), Arg::Narrow(by), Arg::Narrow(key)];
        self.launch(Kernel::Rotate, stream, words, &args)
    }

    /// One buffer is added to another.
    fn add(&mut self, to: usize) -> Result {
        let from = (to + 1 + self.rng.below(self.buffers.len() - 1)) % self.buffers.len();
        let stream = self.stream();
        self.order(to, stream)?;
        self.order(from, stream)?;
        let x = self.buffers[from].model.clone();
        let from = self.buffers[from].at;
        let own = &mut self.buffers[to];
        let (at, words, a) = (own.at, own.model.len(), self.rng.next() as u32);
        reference::axpy(&mut own.model, &x, a);
        let x = (from, x.len());
        self.launch(Kernel::Axpy, stream, words, &axpy((at, words), x, a))
    }

    /// Uses a buffer that belongs to everybody.
    fn meet(&mut self, which: usize) -> Result {
        let stream = self.stream();
        self.order(which, stream)?;
        self.counts.meetings += 1;
        let world = self.world;
        let (n, what, a) = (self.rng.below(6), self.rng.below(8), self.rng.next() as u32);
        world.shared.with(self.driver, n, stream, |common| {
            let (theirs, words) = (common.at, common.model.len());
            match what {
                0..3 => {
                    reference::rotate(&mut common.model, a & 31, a);
                    let args = [
                        Arg::Wide(theirs),
                        Arg::Wide(words as u64),
                        Arg::Narrow(a & 31),
                        Arg::Narrow(a),
                    ];
                    self.launch(Kernel::Rotate, stream, words, &args)
                }
                3..5 => {
                    let own = &self.buffers[which];
                    let x = (own.at, own.model.len());
                    reference::axpy(&mut common.model, &own.model, a);
                    self.launch(Kernel::Axpy, stream, words, &axpy((theirs, words), x, a))
                }
                5..7 => {
                    let own = &mut self.buffers[which];
                    reference::axpy(&mut own.model, &common.model, a);
                    let y = (own.at, own.model.len());
                    self.launch(Kernel::Axpy, stream, y.1, &axpy(y, (theirs, words), a))
                }
                _ => {
                    // It moves: the new one holds what the old one held.
                    match self.driver.mem_alloc_async(words * 4, stream) {
                        Ok(fresh) => {
                            self.driver.copy_d2d_async(fresh, theirs, words * 4, stream)?;
                            self.driver.mem_free_async(theirs, stream)?;
                            common.at = fresh;
                            Ok(())
                        }
                        Err(Code::OUT_OF_MEMORY) => Ok(()),
                        Err(e) => Err(e.into()),
                    }
                }
            }
        })
    }

    fn upload(&mut self, which: usize) -> Result {
        let stream = self.stream();
        self.order(which, stream)?;
        self.counts.copies += 1;
        let seed = self.rng.next() as u32;
        let own = &mut self.buffers[which];
        reference::fill(&mut own.model, seed);
        let bytes = own.model.len() * 4;
        // SAFETY: pageable memory has been read when the call returns.
        let done =
            unsafe { self.driver.copy_h2d_async(own.at, own.model.as_ptr().cast(), bytes, stream) };
        Ok(done?)
    }

    fn set(&mut self, which: usize) -> Result {
        let stream = self.stream();
        self.order(which, stream)?;
        self.counts.copies += 1;
        let value = self.rng.next() as u32;
        let own = &mut self.buffers[which];
        own.model.fill(value);
        Ok(self.driver.set_d32_async(own.at, value, own.model.len(), stream)?)
    }

    fn copy(&mut self, to: usize) -> Result {
        let from = (to + 1) % self.buffers.len();
        let stream = self.stream();
        self.order(to, stream)?;
        self.order(from, stream)?;
        self.counts.copies += 1;
        let words = self.buffers[from].model.len().min(self.buffers[to].model.len());
        let bytes = self.buffers[from].model[..words].to_vec();
        self.buffers[to].model[..words].copy_from_slice(&bytes);
        let (to, from) = (self.buffers[to].at, self.buffers[from].at);
        Ok(self.driver.copy_d2d_async(to, from, words * 4, stream)?)
    }

    fn check(&mut self, which: usize) -> Result {
        self.counts.checks += 1;
        let own = &self.buffers[which];
        let mut found = vec![0u32; own.model.len()];
        let to = found.as_mut_ptr().cast();
        // SAFETY: `found` is not touched before the stream has passed.
        unsafe { self.driver.copy_d2h_async(to, own.at, found.len() * 4, own.home) }?;
        self.driver.stream_synchronize(own.home)?;
        compare(&format!("buffer at {:#x}", own.at), &found, &own.model)
    }

    fn change_streams(&mut self) -> Result {
        if self.streams.len() <= 1 || (self.streams.len() <= STREAMS && self.rng.once_in(2)) {
            self.counts.streams += 1;
            let flags = self.rng.below(2) as u32;
            self.streams.push(self.driver.stream_create(flags)?);
            return Ok(());
        }
        let which = 1 + self.rng.below(self.streams.len() - 1);
        let gone = self.streams.swap_remove(which);
        for which in 0..self.buffers.len() {
            if self.buffers[which].home == gone {
                let stream = self.stream();
                self.order(which, stream)?;
            }
        }
        // Its work may still be running.
        Ok(self.driver.stream_destroy(gone)?)
    }

    fn advise(&mut self, which: usize) -> Result {
        let at = What::At(self.buffers[which].at);
        match self.rng.below(3) {
            0 => drop(self.world.extras.evict(at)),
            1 => drop(self.world.extras.restore(at)),
            _ => drop(self.driver.mem_info()?),
        }
        Ok(())
    }
}

fn axpy(y: (DevicePtr, usize), x: (DevicePtr, usize), a: u32) -> [Arg; 5] {
    [Arg::Wide(y.0), Arg::Wide(y.1 as u64), Arg::Wide(x.0), Arg::Wide(x.1 as u64), Arg::Narrow(a)]
}
