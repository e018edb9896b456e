//! The streams of the program, and the order between them.
//!
//! Work on one stream runs in order; between streams the program asks for order by events, and
//! only where the driver does not promise it already: the legacy stream and the blocking ones
//! (per-thread default included) wait for each other. Leaving those waits out is the point: a
//! driver, or anything between it and the program, that breaks the promise changes the digest.

use crate::error::{During, Result};
use crate::random::Random;
use cuda_client::{Driver, Event, Stream, flag};

/// Number of streams.
pub const LANES: usize = 6;

/// One stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane(usize);

/// A point in a stream: everything submitted to it up to then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    lane: Lane,
    count: u64,
}

impl Mark {
    /// Before any work.
    pub const NEVER: Mark = Mark { lane: Lane(0), count: 0 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Legacy,
    Blocking,
    Free,
}

/// All streams.
#[derive(Debug)]
pub struct Lanes {
    streams: [Stream; LANES],
    kinds: [Kind; LANES],
    /// One a lane, recorded anew for each wait: a wait refers to the record before it.
    events: [Event; LANES],
    submitted: [u64; LANES],
    /// `waited[a][b]`: how much of `b` comes before whatever `a` does next.
    waited: [[u64; LANES]; LANES],
    /// How much the host has waited for.
    passed: [u64; LANES],
}

impl Lane {
    /// The stream that copies without a stream argument use.
    pub const LEGACY: Lane = Lane(0);

    /// Its number, below [`LANES`].
    pub fn index(self) -> usize {
        self.0
    }

    /// Any of them.
    pub fn random(random: &mut Random) -> Lane {
        Lane(random.below(LANES))
    }
}

impl Lanes {
    /// The default streams of both kinds, two blocking and two non-blocking ones.
    pub fn create(driver: &Driver) -> Result<Lanes> {
        let stream = |flags| driver.stream_create(flags).during("create a stream");
        let streams = [
            Stream::NULL,
            Stream::PER_THREAD,
            stream(flag::STREAM_DEFAULT)?,
            stream(flag::STREAM_DEFAULT)?,
            stream(flag::STREAM_NON_BLOCKING)?,
            driver
                .stream_create_with_priority(flag::STREAM_NON_BLOCKING, 0)
                .during("create a stream")?,
        ];
        let mut events = [Event::NULL; LANES];
        for event in &mut events {
            *event = driver.event_create(flag::EVENT_DISABLE_TIMING).during("create an event")?;
        }
        Ok(Lanes {
            streams,
            kinds: [
                Kind::Legacy,
                Kind::Blocking,
                Kind::Blocking,
                Kind::Blocking,
                Kind::Free,
                Kind::Free,
            ],
            events,
            submitted: [0; LANES],
            waited: [[0; LANES]; LANES],
            passed: [0; LANES],
        })
    }

    /// The driver's handle.
    pub fn stream(&self, lane: Lane) -> Stream {
        self.streams[lane.0]
    }

    /// Counts a piece of work just submitted to `lane`.
    pub fn submitted(&mut self, lane: Lane) -> Mark {
        self.submitted[lane.0] += 1;
        Mark { lane, count: self.submitted[lane.0] }
    }

    /// Makes the next work of `lane` come after `mark`.
    pub fn order(&mut self, driver: &Driver, lane: Lane, mark: Mark) -> Result<()> {
        let before = mark.lane.0;
        let known = self.waited[lane.0][before].max(self.passed[before]);
        if lane == mark.lane || mark.count <= known || self.promised(mark.lane, lane) {
            return Ok(());
        }
        let event = self.events[before];
        driver.event_record(event, self.streams[before]).during("record an event")?;
        driver.stream_wait_event(self.streams[lane.0], event).during("wait for an event")?;
        self.waited[lane.0][before] = self.submitted[before];
        Ok(())
    }

    /// Whether the driver itself orders these two.
    fn promised(&self, first: Lane, then: Lane) -> bool {
        matches!(
            (self.kinds[first.0], self.kinds[then.0]),
            (Kind::Legacy, Kind::Blocking) | (Kind::Blocking, Kind::Legacy)
        )
    }

    /// Waits on the host until `mark` has passed; `query` polls instead of blocking.
    pub fn wait(&mut self, driver: &Driver, mark: Mark, query: bool) -> Result<()> {
        let lane = mark.lane.0;
        if mark.count <= self.passed[lane] {
            return Ok(());
        }
        let stream = self.streams[lane];
        if query {
            loop {
                match driver.stream_query(stream) {
                    Err(cuda_client::Code::NOT_READY) => std::thread::yield_now(),
                    other => break other.during("query a stream")?,
                }
            }
        } else {
            driver.stream_synchronize(stream).during("synchronize a stream")?;
        }
        self.passed[lane] = self.submitted[lane];
        Ok(())
    }

    /// Waits on the host for everything.
    pub fn wait_all(&mut self, driver: &Driver) -> Result<()> {
        driver.ctx_synchronize().during("synchronize")?;
        self.passed = self.submitted;
        Ok(())
    }

    /// Destroys what [`Lanes::create`] made.
    pub fn destroy(&self, driver: &Driver) -> Result<()> {
        for event in self.events {
            driver.event_destroy(event).during("destroy an event")?;
        }
        for &stream in &self.streams[2..] {
            driver.stream_destroy(stream).during("destroy a stream")?;
        }
        Ok(())
    }
}
