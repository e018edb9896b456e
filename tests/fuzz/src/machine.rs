//! Buffers, streams, and the order between accesses.
//!
//! Every access to a buffer remembers an event; a later access that conflicts waits for it on its
//! own stream first. So what a buffer holds is determined, and everything that does not conflict
//! may run at once.

use cuda_client::{Code, DevicePtr, Driver, Event, Stream};
use std::cell::Cell;
use std::rc::Rc;

/// One allocation and what it must hold.
#[derive(Debug)]
pub struct Buffer {
    /// Its address.
    pub at: DevicePtr,
    /// Its words.
    pub model: Vec<u32>,
    /// From a stream-ordered call.
    pub pooled: bool,
    /// Bytes of the allocation, as the driver was asked for.
    pub logical: u64,
    written: Option<(Stream, Event)>,
    read: Vec<(Stream, Event)>,
}

impl Buffer {
    /// A fresh one.
    pub fn new(at: DevicePtr, words: usize, logical: u64, pooled: bool) -> Buffer {
        let model = vec![0; words];
        Buffer { at, model, pooled, logical, written: None, read: Vec::new() }
    }
}

/// The streams of a sequence and the events between them.
#[derive(Debug)]
pub struct Machine {
    /// The driver.
    pub driver: Driver,
    /// Streams that may be used; the first two are the default ones.
    pub streams: Vec<Stream>,
    /// Goes on after an error: what cannot be left out is tried once more.
    pub patient: bool,
    /// Errors that were met so, counted wherever the machine goes.
    pub refusals: Rc<Cell<u32>>,
    spare: Vec<Event>,
    events: Vec<Event>,
}

impl Machine {
    /// Two default streams and four others.
    pub fn new(driver: Driver) -> Result<Machine, Code> {
        let mut streams = vec![Stream::LEGACY, Stream::PER_THREAD];
        for flags in [0, 1, 0, 1] {
            streams.push(driver.stream_create(flags)?);
        }
        let (patient, refusals) = (false, Rc::default());
        Ok(Machine { driver, streams, patient, refusals, spare: Vec::new(), events: Vec::new() })
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

    fn event(&mut self) -> Result<Event, Code> {
        if let Some(event) = self.spare.pop() {
            return Ok(event);
        }
        const NO_TIMING: u32 = 2;
        let event = self.again(|driver| driver.event_create(NO_TIMING))?;
        self.events.push(event);
        Ok(event)
    }

    /// Makes `stream` wait for everything that an access to `buffer` must follow.
    pub fn before(&mut self, stream: Stream, buffer: &Buffer, write: bool) -> Result<(), Code> {
        let mut after: Vec<Event> = Vec::new();
        after.extend(buffer.written.filter(|(s, _)| *s != stream).map(|(_, e)| e));
        if write {
            after.extend(buffer.read.iter().filter(|(s, _)| *s != stream).map(|(_, e)| *e));
        }
        for event in after {
            self.driver.stream_wait_event(stream, event)?;
        }
        Ok(())
    }

    /// Notes that `stream` has just accessed `buffer`.
    pub fn after(&mut self, stream: Stream, buffer: &mut Buffer, write: bool) -> Result<(), Code> {
        let event = self.event()?;
        self.again(|driver| driver.event_record(event, stream))?;
        if write {
            let old = buffer.read.drain(..).chain(buffer.written.take());
            self.spare.extend(old.map(|(_, e)| e));
            buffer.written = Some((stream, event));
        } else {
            buffer.read.push((stream, event));
        }
        Ok(())
    }

    /// Takes back the events of a buffer that is gone.
    pub fn forget(&mut self, buffer: Buffer) {
        self.spare.extend(buffer.read.into_iter().chain(buffer.written).map(|(_, e)| e));
    }

    /// The host waits for everything that wrote `buffer`.
    pub fn settle(&self, buffer: &Buffer) -> Result<(), Code> {
        match buffer.written {
            Some((_, event)) => self.driver.event_synchronize(event),
            None => Ok(()),
        }
    }

    /// Replaces one of the created streams by a new one; its work goes on.
    pub fn renew_stream(&mut self, which: usize, flags: u32) -> Result<(), Code> {
        let old = self.streams[2 + which % 4];
        self.driver.stream_destroy(old)?;
        self.streams[2 + which % 4] = self.again(|driver| driver.stream_create(flags))?;
        Ok(())
    }

    /// A stream that is gone may still be named in events: its handle can come back as another
    /// stream's, so the order by handle alone would be wrong.
    pub fn unname(buffers: &mut [Buffer], gone: Stream) {
        const NOBODY: Stream = Stream(usize::MAX);
        for buffer in buffers {
            for access in buffer.read.iter_mut().chain(buffer.written.as_mut()) {
                if access.0 == gone {
                    access.0 = NOBODY;
                }
            }
        }
    }

    /// Destroys events and streams.
    pub fn end(self) -> Result<(), Code> {
        for &event in &self.events {
            self.again(|driver| driver.event_destroy(event))?;
        }
        for &stream in &self.streams[2..] {
            self.again(|driver| driver.stream_destroy(stream))?;
        }
        Ok(())
    }
}
