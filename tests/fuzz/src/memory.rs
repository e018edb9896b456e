//! The steps that allocate and free, and those that put addresses where kernels find them.

use crate::check::{OUT_OF_MEMORY, Result, Trouble};
use crate::coldpress::status;
use crate::machine::{Buffer, Lane, Made};
use crate::program::{HOST_TABLES, Place, Program, ROWS, Table};
use cuda_client::{Code, DevicePtr};

impl Program {
    pub(crate) fn allocate(&mut self) -> Result {
        // A large one takes up to a sixteenth of the budget.
        let large = self.options.budget / 64;
        let words = match self.rng.below(5) {
            0 => 1 + self.rng.below(200),
            1 => 200 + self.rng.below(4000),
            2 => 64 << self.rng.below(8),
            _ => large / 8 + self.rng.below(large),
        };
        if self.live + words * 4 > self.options.budget {
            return self.free();
        }
        let lane = self.lane()?;
        let (made, got) = self.ask_for(words * 4, lane);
        let (at, logical) = match got {
            Ok(got) => got,
            Err(Trouble::Driver(OUT_OF_MEMORY)) => {
                self.outcome.out_of_memory += 1;
                return self.free();
            }
            Err(e) => return Err(e),
        };
        let overlaps = |b: &Buffer| at < b.at + b.logical && b.at < at + logical as u64;
        if let Some(other) = self.buffers.iter().find(|b| overlaps(b)) {
            let (there, size) = (other.at, other.logical);
            return Err(Trouble::Wrong(format!(
                "{logical} bytes at {at:#x} lie in the {size} live bytes at {there:#x}"
            )));
        }
        let mut buffer = Buffer::new(at, words, logical as u64, made, lane.card);
        // The first write is on the same lane, so it also stands for the allocation itself.
        self.machine.again(|d| d.set_d32_async(at, 0x5EED_0000, words, lane.stream))?;
        buffer.model.fill(0x5EED_0000);
        self.machine.after(lane, &mut buffer, true)?;
        self.live += words * 4;
        self.buffers.push(buffer);
        Ok(())
    }

    /// Memory of the lane's card, by any of the ways there are: address and size.
    fn ask_for(
        &mut self,
        bytes: usize,
        lane: Lane,
    ) -> (Made, std::result::Result<(DevicePtr, usize), Trouble>) {
        let driver = &self.machine.driver;
        let plain = |at: std::result::Result<DevicePtr, Code>| Ok((at?, bytes));
        match self.rng.below(8) {
            0 | 1 => (Made::Pooled, plain(driver.mem_alloc_async(bytes, lane.stream))),
            // A pitched allocation is as long as its padded row.
            2 => (Made::Plain, driver.mem_alloc_pitch(bytes, 1, 4).map_err(Trouble::Driver)),
            3 if self.extras.managed() && !self.machine.patient => {
                (Made::Torch, self.torch_malloc(bytes, lane).map(|at| (at, bytes)))
            }
            4 if self.extras.managed() && !self.machine.patient => {
                let code = |code| match code {
                    status::OUT_OF_MEMORY => Trouble::Driver(OUT_OF_MEMORY),
                    other => Trouble::Wrong(format!("coldpress_malloc answers {other}")),
                };
                let got = self.extras.malloc(bytes).unwrap_or(Ok(0));
                (Made::Interface, got.map(|at| (at, bytes)).map_err(code))
            }
            _ => (Made::Plain, plain(driver.mem_alloc(bytes))),
        }
    }

    fn torch_malloc(
        &mut self,
        bytes: usize,
        lane: Lane,
    ) -> std::result::Result<DevicePtr, Trouble> {
        let (share, used) = self.shares[lane.card];
        let card = self.machine.driver.device_total_mem(self.machine.cards[lane.card].device)?;
        let allowed = used + bytes as u64 <= (share * card as f64) as u64;
        let at = self.extras.torch_malloc(bytes, lane.card as i32, lane.stream).unwrap_or(0);
        match at {
            0 => Err(Trouble::Driver(OUT_OF_MEMORY)),
            _ if !allowed => Err(Trouble::Wrong(format!(
                "{bytes} bytes come on top of {used}, above {share} of the card's {card}"
            ))),
            at => {
                self.shares[lane.card].1 += bytes as u64;
                Ok(at)
            }
        }
    }

    pub(crate) fn free(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let lane = self.lane()?;
        let ordered = !self.rng.once_in(4);
        let mut buffer = self.remove(i);
        let freed = self.free_buffer(&mut buffer, lane, ordered);
        if freed.is_err() {
            // It is still there.
            self.live += buffer.model.len() * 4;
            self.buffers.push(buffer);
        }
        freed
    }

    /// Frees in the order of `lane` if `ordered`; else as the call itself promises.
    pub(crate) fn free_buffer(&mut self, buffer: &mut Buffer, lane: Lane, ordered: bool) -> Result {
        let driver = &self.machine.driver;
        let at = buffer.at;
        match buffer.made {
            Made::Torch => {
                self.shares[buffer.card].1 -= buffer.logical;
                if ordered {
                    self.machine.before(lane, buffer, true)?;
                } else {
                    // Whoever used it has been named, so nobody need wait.
                    buffer.lanes().for_each(|l| self.extras.torch_record(at, l.stream));
                    self.machine.settle_for_free(buffer)?;
                    self.machine.enter(lane.card)?;
                }
                let bytes = buffer.logical as usize;
                self.extras.torch_free(at, bytes, buffer.card as i32, lane.stream);
            }
            Made::Pooled if ordered => {
                self.machine.before(lane, buffer, true)?;
                driver.mem_free_async(at, lane.stream)?;
            }
            Made::Interface if ordered => {
                self.machine.settle_for_free(buffer)?;
                match self.extras.free(at) {
                    None | Some(status::OK) => {}
                    Some(code) => {
                        return Err(Trouble::Wrong(format!("coldpress_free answers {code}")));
                    }
                }
            }
            _ => {
                self.machine.settle_for_free(buffer)?;
                driver.mem_free(at)?;
            }
        }
        self.machine.forget(buffer);
        Ok(())
    }

    /// Makes a table: from now on kernels reach the buffers it names through it alone.
    pub(crate) fn table(&mut self) -> Result {
        let picked: Vec<usize> =
            (0..1 + self.rng.below(ROWS)).filter_map(|_| self.pick()).collect();
        let rows: Vec<usize> = picked.into_iter().filter(|&r| !self.is_table(r)).collect();
        if rows.is_empty() || self.tables.len() >= 4 {
            return Ok(());
        }
        if self.rng.once_in(2) {
            return self.table_on_host(rows);
        }
        let Some(at) = self.target() else { return Ok(()) };
        let named = self.tables.iter().any(|t| t.rows.contains(&at)) || rows.contains(&at);
        let fits = rows.len() * 4 <= self.buffers[at].model.len();
        let shared = self.machine.cards.iter().any(|card| card.shared == Some(at));
        if named || !fits || shared {
            return Ok(());
        }
        let words = self.row_words(&rows);
        let lane = self.lane()?;
        self.before(lane, &[], &[at])?;
        let to = self.buffers[at].at;
        // SAFETY: pageable memory has been read when the call returns.
        unsafe {
            let from = words.as_ptr().cast();
            self.machine.driver.copy_h2d_async(to, from, words.len() * 8, lane.stream)
        }?;
        self.after(lane, &[], &[at])?;
        for (i, word) in words.iter().enumerate() {
            self.buffers[at].model[2 * i] = *word as u32;
            self.buffers[at].model[2 * i + 1] = (word >> 32) as u32;
        }
        self.tables.push(Table { at: Place::Buffer(at), rows });
        Ok(())
    }

    fn table_on_host(&mut self, rows: Vec<usize>) -> Result {
        if self.host_tables_used == HOST_TABLES {
            // Kernels that read the old ones may be queued.
            self.machine.synchronize()?;
            self.tables.retain(|t| matches!(t.at, Place::Buffer(_)));
            self.host_tables_used = 0;
        }
        let words = self.row_words(&rows);
        // SAFETY: a slot inside the allocation that no queued kernel reads.
        let at = unsafe {
            let at = self.host_tables.add(self.host_tables_used * ROWS * 2);
            at.copy_from_nonoverlapping(words.as_ptr(), words.len());
            at
        };
        self.host_tables_used += 1;
        self.tables.push(Table { at: Place::Host(at as DevicePtr), rows });
        Ok(())
    }

    /// Address and length of each buffer, as kernels expect them in a table.
    fn row_words(&self, rows: &[usize]) -> Vec<u64> {
        let row = |&r: &usize| [self.buffers[r].at, self.buffers[r].model.len() as u64];
        rows.iter().flat_map(row).collect()
    }

    pub(crate) fn name_global(&mut self) -> Result {
        let Some(i) = self.target() else { return Ok(()) };
        // Kernels that read the global may be queued anywhere.
        self.machine.synchronize()?;
        let card = self.rng.below(self.machine.cards.len());
        self.machine.enter(card)?;
        let row = self.row_words(&[i]);
        let at = self.machine.cards[card].kernels.global;
        self.machine.driver.upload(at, &row)?;
        self.machine.cards[card].shared = Some(i);
        Ok(())
    }

    /// A mistake that the driver reports and that changes nothing.
    pub(crate) fn mistake(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let (at, bytes) = (self.buffers[i].at, self.buffers[i].logical);
        let driver = &self.machine.driver;
        let (what, result) = match self.rng.below(3) {
            0 if bytes > 4 => ("free inside a buffer", driver.mem_free(at + 4)),
            1 => ("allocate nothing", driver.mem_alloc(0).map(drop)),
            _ => ("free of null's neighbour", driver.mem_free(8)),
        };
        match result {
            Ok(()) => Err(Trouble::Wrong(format!("{what} was accepted"))),
            Err(_) => Ok(()),
        }
    }

    /// What the driver knows of a buffer.
    pub(crate) fn ask(&mut self) -> Result {
        let Some(i) = self.pick() else { return Ok(()) };
        let (at, bytes) = (self.buffers[i].at, self.buffers[i].logical);
        let inside = at + self.rng.below(bytes as usize) as u64;
        let range = self.machine.driver.address_range(inside)?;
        if range != (at, bytes as usize) {
            let text = format!("{inside:#x} is in {range:x?}, must be in {bytes} at {at:#x}");
            return Err(Trouble::Wrong(text));
        }
        let context = self.machine.driver.pointer_context(inside)?;
        let pooled = self.buffers[i].made == Made::Pooled || self.buffers[i].made == Made::Torch;
        if !pooled && context != self.machine.cards[self.buffers[i].card].context {
            return Err(Trouble::Wrong(format!("{inside:#x} is in the context {context:?}")));
        }
        match self.extras.snapshot() {
            Some(Ok(n)) if n != self.buffers.len() => {
                let live = self.buffers.len();
                Err(Trouble::Wrong(format!("the snapshot lists {n} allocations, not {live}")))
            }
            Some(Err(text)) => Err(Trouble::Wrong(text)),
            _ => Ok(()),
        }
    }
}
