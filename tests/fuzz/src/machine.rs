//! Cards with their contexts, lanes (a stream of a card), buffers, and the order between accesses.
//!
//! Every access to a buffer remembers an event; a later access that conflicts waits for it on its
//! own lane first. So what a buffer holds is determined, and everything that does not conflict
//! may run at once.

use crate::kernels::Kernels;
use cuda_client::{Code, Context, Device, DevicePtr, Driver, Event, Stream};
use std::cell::Cell;
use std::rc::Rc;

/// Created streams of a card, at most and at first.
const MOST_STREAMS: usize = 8;
const FIRST_STREAMS: usize = 4;

/// A stream of a card. Handles come back as other streams'; numbers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which lane.
    pub number: u64,
    /// Index of the card.
    pub card: usize,
    /// Its stream.
    pub stream: Stream,
}

/// How an allocation was made: it has to be freed the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// `cuMemAlloc`, or with a pitch.
    Plain,
    /// `cuMemAllocAsync`.
    Pooled,
    /// `coldpress_torch_malloc`.
    Torch,
    /// `coldpress_malloc`.
    Interface,
}

/// One allocation and what it must hold.
#[derive(Debug)]
pub struct Buffer {
    /// Its address.
    pub at: DevicePtr,
    /// Its words.
    pub model: Vec<u32>,
    /// Who made it.
    pub made: Made,
    /// Index of the card whose memory it is.
    pub card: usize,
    /// Bytes of the allocation, as the driver was asked for.
    pub logical: u64,
    /// Times `coldpress_pin` has succeeded.
    pub pins: u32,
    written: Option<(Lane, Event)>,
    read: Vec<(Lane, Event)>,
}

impl Buffer {
    /// A fresh one.
    pub fn new(at: DevicePtr, words: usize, logical: u64, made: Made, card: usize) -> Buffer {
        let model = vec![0; words];
        Buffer { at, model, made, card, logical, pins: 0, written: None, read: Vec::new() }
    }

    /// Every lane that has touched it and was not waited for.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.read.iter().chain(&self.written).map(|(lane, _)| *lane)
    }
}

/// One card: a context and what is in it.
#[derive(Debug)]
pub struct Card {
    /// Its device.
    pub device: Device,
    /// Its context.
    pub context: Context,
    /// Created, not the primary one.
    own: bool,
    /// The kernels, loaded in it.
    pub kernels: Kernels,
    /// The buffer that its module's global names.
    pub shared: Option<usize>,
    spare: Vec<Event>,
    events: Vec<Event>,
}

/// The cards, their lanes and the events between them.
#[derive(Debug)]
pub struct Machine {
    /// The driver.
    pub driver: Driver,
    /// The cards in use.
    pub cards: Vec<Card>,
    /// Lanes that may be used; of each card the two default ones come first.
    pub lanes: Vec<Lane>,
    /// Goes on after an error: what cannot be left out is tried once more.
    pub patient: bool,
    /// Errors that were met so, counted wherever the machine goes.
    pub refusals: Rc<Cell<u32>>,
    next: u64,
}

impl Machine {
    /// A context on each of `devices` cards; `own` contexts instead of the primary ones.
    pub fn new(driver: Driver, devices: usize, own: bool) -> Result<Machine, Code> {
        let (cards, lanes, refusals) = (Vec::new(), Vec::new(), Rc::default());
        let mut machine = Machine { driver, cards, lanes, patient: false, refusals, next: 0 };
        for ordinal in 0..devices {
            let card = machine.open(ordinal, own)?;
            machine.cards.push(card);
            machine.open_lanes(ordinal)?;
        }
        machine.befriend()?;
        Ok(machine)
    }

    /// Calls the driver, a patient machine once more after an error.
    pub fn again<T>(&self, f: impl Fn(&Driver) -> Result<T, Code>) -> Result<T, Code> {
        match f(&self.driver) {
            Err(_) if self.patient => {
                self.refusals.set(self.refusals.get() + 1);
                f(&self.driver)
            }
            result => result,
        }
    }

    fn open(&self, ordinal: usize, own: bool) -> Result<Card, Code> {
        let driver = &self.driver;
        let device = driver.device(ordinal as i32)?;
        let context =
            if own { driver.ctx_create(0, device)? } else { driver.primary_retain(device)? };
        driver.ctx_set_current(context)?;
        let kernels = Kernels::load(driver)?;
        let (spare, events) = (Vec::new(), Vec::new());
        Ok(Card { device, context, own, kernels, shared: None, spare, events })
    }

    fn open_lanes(&mut self, card: usize) -> Result<(), Code> {
        for stream in [Stream::LEGACY, Stream::PER_THREAD] {
            self.add_lane(card, stream);
        }
        for flags in 0..FIRST_STREAMS as u32 {
            self.create_stream(card, flags & 1)?;
        }
        Ok(())
    }

    fn add_lane(&mut self, card: usize, stream: Stream) {
        self.next += 1;
        self.lanes.push(Lane { number: self.next, card, stream });
    }

    /// Lets every card look into every other.
    fn befriend(&self) -> Result<(), Code> {
        const ALREADY: Code = Code(704);
        for a in &self.cards {
            self.driver.ctx_set_current(a.context)?;
            for b in self.cards.iter().filter(|b| b.device != a.device) {
                match self.driver.ctx_enable_peer_access(b.context) {
                    Ok(()) | Err(ALREADY) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Makes the context of a card current.
    pub fn enter(&self, card: usize) -> Result<(), Code> {
        self.driver.ctx_set_current(self.cards[card].context)
    }

    /// Waits for all work of all cards.
    pub fn synchronize(&self) -> Result<(), Code> {
        for card in 0..self.cards.len() {
            self.enter(card)?;
            self.driver.ctx_synchronize()?;
        }
        Ok(())
    }

    fn event(&mut self, card: usize) -> Result<Event, Code> {
        if let Some(event) = self.cards[card].spare.pop() {
            return Ok(event);
        }
        const NO_TIMING: u32 = 2;
        let event = self.again(|driver| driver.event_create(NO_TIMING))?;
        self.cards[card].events.push(event);
        Ok(event)
    }

    /// Makes `lane`, whose card is entered, wait for everything that an access to `buffer` must
    /// follow.
    pub fn before(&self, lane: Lane, buffer: &Buffer, write: bool) -> Result<(), Code> {
        let read = buffer.read.iter().filter(|_| write);
        for (_, event) in buffer.written.iter().chain(read).filter(|(l, _)| *l != lane) {
            self.driver.stream_wait_event(lane.stream, *event)?;
        }
        Ok(())
    }

    /// Notes that `lane`, whose card is entered, has just accessed `buffer`.
    pub fn after(&mut self, lane: Lane, buffer: &mut Buffer, write: bool) -> Result<(), Code> {
        let event = self.event(lane.card)?;
        self.again(|driver| driver.event_record(event, lane.stream))?;
        if write {
            self.forget(buffer);
            buffer.written = Some((lane, event));
        } else {
            buffer.read.push((lane, event));
        }
        Ok(())
    }

    /// Takes back the events of a buffer.
    pub fn forget(&mut self, buffer: &mut Buffer) {
        for (lane, event) in buffer.read.drain(..).chain(buffer.written.take()) {
            self.cards[lane.card].spare.push(event);
        }
    }

    /// The host waits for everything that wrote `buffer`.
    pub fn settle(&self, buffer: &Buffer) -> Result<(), Code> {
        match buffer.written {
            Some((_, event)) => self.driver.event_synchronize(event),
            None => Ok(()),
        }
    }

    /// The host waits for what a free does not wait for: what other cards do with plain memory,
    /// and everything that is done with memory of a pool.
    pub fn settle_for_free(&self, buffer: &Buffer) -> Result<(), Code> {
        let waits = buffer.made != Made::Pooled;
        let all = buffer.read.iter().chain(&buffer.written);
        for (_, event) in all.filter(|(lane, _)| !waits || lane.card != buffer.card) {
            self.driver.event_synchronize(*event)?;
        }
        Ok(())
    }

    /// Lanes of a card that were created.
    fn created(&self, card: usize) -> Vec<usize> {
        let created = |l: &Lane| {
            l.card == card && l.stream != Stream::LEGACY && l.stream != Stream::PER_THREAD
        };
        (0..self.lanes.len()).filter(|&i| created(&self.lanes[i])).collect()
    }

    /// Creates a stream on a card that is entered, unless it has many.
    pub fn create_stream(&mut self, card: usize, flags: u32) -> Result<(), Code> {
        if self.created(card).len() < MOST_STREAMS {
            let stream = self.driver.stream_create(flags)?;
            self.add_lane(card, stream);
        }
        Ok(())
    }

    /// Destroys one of the created streams of a card, if there is any; its work goes on.
    pub fn destroy_stream(&mut self, card: usize, which: usize) -> Result<(), Code> {
        let created = self.created(card);
        match created.get(which % created.len().max(1)) {
            Some(&lane) => {
                self.driver.stream_destroy(self.lanes[lane].stream)?;
                self.lanes.swap_remove(lane);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Destroys the context of a card and opens another. Everything has been waited for, and the
    /// program has dropped what was in it; `buffers` are those of the other cards.
    pub fn reset(&mut self, card: usize, buffers: &mut [Buffer]) -> Result<(), Code> {
        for buffer in buffers {
            self.forget(buffer);
        }
        self.lanes.retain(|lane| lane.card != card);
        let Card { device, context, own, .. } = self.cards[card];
        if own {
            self.driver.ctx_destroy(context)?;
        } else {
            self.driver.primary_reset(device)?;
        }
        self.cards[card] = self.open(card, own)?;
        self.open_lanes(card)?;
        self.befriend()
    }

    /// Destroys events, streams, modules and contexts.
    pub fn end(mut self) -> Result<(), Code> {
        for lane in std::mem::take(&mut self.lanes) {
            if lane.stream != Stream::LEGACY && lane.stream != Stream::PER_THREAD {
                self.again(|driver| driver.stream_destroy(lane.stream))?;
            }
        }
        for card in &self.cards {
            self.again(|driver| driver.ctx_set_current(card.context))?;
            for event in &card.events {
                self.again(|driver| driver.event_destroy(*event))?;
            }
            self.again(|driver| card.kernels.unload(driver))?;
            self.again(|driver| match card.own {
                true => driver.ctx_destroy(card.context),
                false => driver.primary_release(card.device),
            })?;
        }
        Ok(())
    }
}
