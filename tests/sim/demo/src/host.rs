//! Copies between host and device, in the ways programs do them.

use crate::buffers::Id;
use crate::error::Result;
use crate::job::Job;
use crate::lanes::Lane;

impl Job {
    /// Uploads `data` to the start of `to`: from ordinary memory, waiting or not, or pinned.
    pub fn upload(&mut self, to: Id, data: &[u8]) -> Result<()> {
        let at = self.buffers.get(to)?.at;
        self.counts.copies += 1;
        match self.random.below(3) {
            0 => {
                self.submit("upload", Lane::LEGACY, &[], &[to], |s| s.driver.upload(at, data))?;
            }
            1 => {
                let lane = Lane::random(&mut self.random);
                let mark = self.submit("upload", lane, &[], &[to], |s| {
                    // SAFETY: `data` is borrowed until after the wait below.
                    unsafe {
                        s.driver.copy_h2d_async(at, data.as_ptr().cast(), data.len(), s.stream)
                    }
                })?;
                self.wait(mark)?;
            }
            _ => self.upload_pinned(at, to, data)?,
        }
        Ok(())
    }

    fn upload_pinned(&mut self, at: u64, to: Id, data: &[u8]) -> Result<()> {
        for (offset, part) in
            (0u64..).step_by(self.staging.bytes()).zip(data.chunks(self.staging.bytes()))
        {
            let query = self.random.one_in(4);
            let pinned = self.staging.take(&self.driver, &mut self.lanes, query)?;
            // SAFETY: the slot is at least as long as `part`, and no copy uses it any more.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), pinned.at.cast(), part.len());
            }
            let lane = Lane::random(&mut self.random);
            let mark = self.submit("upload from pinned memory", lane, &[], &[to], |s| {
                // SAFETY: the slot is not handed out again before the stream has passed.
                unsafe { s.driver.copy_h2d_async(at + offset, pinned.at, part.len(), s.stream) }
            })?;
            self.staging.used(pinned, mark);
        }
        Ok(())
    }

    /// Downloads all of `from`, in one of the ways of [`Job::upload`].
    pub fn download(&mut self, from: Id) -> Result<Vec<u8>> {
        let buffer = self.buffers.get(from)?;
        let (at, bytes) = (buffer.at, buffer.bytes);
        let mut out = vec![0u8; bytes];
        self.counts.copies += 1;
        match self.random.below(3) {
            0 => {
                self.submit("download", Lane::LEGACY, &[from], &[], |s| {
                    s.driver.download(&mut out, at)
                })?;
            }
            1 => {
                let lane = Lane::random(&mut self.random);
                let mark = self.submit("download", lane, &[from], &[], |s| {
                    // SAFETY: `out` lives until after the wait below.
                    unsafe { s.driver.copy_d2h_async(out.as_mut_ptr().cast(), at, bytes, s.stream) }
                })?;
                self.wait(mark)?;
            }
            _ => self.download_pinned(at, from, &mut out)?,
        }
        Ok(out)
    }

    fn download_pinned(&mut self, at: u64, from: Id, out: &mut [u8]) -> Result<()> {
        let slot = self.staging.bytes();
        for (offset, part) in (0u64..).step_by(slot).zip(out.chunks_mut(slot)) {
            let pinned = self.staging.take(&self.driver, &mut self.lanes, false)?;
            let lane = Lane::random(&mut self.random);
            let mark = self.submit("download to pinned memory", lane, &[from], &[], |s| {
                // SAFETY: nothing else uses the slot until the wait below.
                unsafe { s.driver.copy_d2h_async(pinned.at, at + offset, part.len(), s.stream) }
            })?;
            self.staging.used(pinned, mark);
            self.wait(mark)?;
            // SAFETY: the copy has passed; the slot is as long as `part` at least.
            unsafe {
                std::ptr::copy_nonoverlapping(pinned.at.cast(), part.as_mut_ptr(), part.len());
            }
        }
        Ok(())
    }
}
