//! Device memory the program holds, and which work used each buffer last.

use crate::error::{Error, Result};
use crate::lanes::{LANES, Lane, Mark};
use cuda_client::DevicePtr;

/// Names a buffer; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(usize);

/// One allocation.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Where it is.
    pub at: DevicePtr,
    /// As asked for; need not be whole words.
    pub bytes: usize,
    /// The work that wrote it last, or allocated it.
    written: Mark,
    /// The last work on each stream that read it since.
    read: [Mark; LANES],
}

impl Buffer {
    /// Whole words in it: what kernels work on.
    pub fn words(&self) -> u64 {
        self.bytes as u64 / 4
    }

    /// The work a reader has to come after.
    pub fn before_read(&self) -> Mark {
        self.written
    }

    /// The work a writer has to come after.
    pub fn before_write(&self) -> impl Iterator<Item = Mark> + use<> {
        std::iter::once(self.written).chain(self.read)
    }
}

/// All buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    slots: Vec<Option<Buffer>>,
    /// Bytes held now.
    pub live: usize,
    /// The most ever held.
    pub peak: usize,
}

impl Buffers {
    /// Adds an allocation made by the work at `mark`.
    pub fn add(&mut self, at: DevicePtr, bytes: usize, mark: Mark) -> Id {
        self.live += bytes;
        self.peak = self.peak.max(self.live);
        self.slots.push(Some(Buffer { at, bytes, written: mark, read: [Mark::NEVER; LANES] }));
        Id(self.slots.len() - 1)
    }

    /// The buffer, while it is held.
    pub fn get(&self, id: Id) -> Result<&Buffer> {
        self.slots.get(id.0).and_then(Option::as_ref).ok_or_else(|| gone(id))
    }

    /// Takes a buffer out, to free it.
    pub fn take(&mut self, id: Id) -> Result<Buffer> {
        let buffer = self.slots.get_mut(id.0).and_then(Option::take).ok_or_else(|| gone(id))?;
        self.live -= buffer.bytes;
        Ok(buffer)
    }

    /// Notes that the work at `mark` on `lane` read the buffer.
    pub fn was_read(&mut self, id: Id, lane: Lane, mark: Mark) {
        if let Some(Some(buffer)) = self.slots.get_mut(id.0) {
            buffer.read[lane.index()] = mark;
        }
    }

    /// Notes that the work at `mark` wrote the buffer.
    pub fn was_written(&mut self, id: Id, mark: Mark) {
        if let Some(Some(buffer)) = self.slots.get_mut(id.0) {
            buffer.written = mark;
            buffer.read = [Mark::NEVER; LANES];
        }
    }

    /// All buffers held, oldest first.
    pub fn ids(&self) -> Vec<Id> {
        (0..self.slots.len()).filter(|&i| self.slots[i].is_some()).map(Id).collect()
    }
}

fn gone(id: Id) -> Error {
    Error::new(format!("buffer {} was freed", id.0))
}
