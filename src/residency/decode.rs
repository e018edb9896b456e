//! Decoding pages to device memory, and the proof of what was coded: by kernels or on the host, as
//! `coder.rs` says. What is decoded is checked where it is used.

use super::blob::{Kept, Page};
use super::coder::Site;
use super::scratch::Scratch;
use super::stream::{self, Decode, Kernels};
use super::ticket::{STAGING, Work};
use super::verify;
use crate::codec::PAGE;
use crate::driver::{CUresult, code};
use crate::stats;

/// Why bytes could not be brought back.
#[derive(Debug)]
pub enum Failed {
    /// They are not what they were; why.
    Corrupt(String),
    /// The driver does not copy or run anything.
    Driver(CUresult),
}

impl From<CUresult> for Failed {
    fn from(e: CUresult) -> Failed {
        Failed::Driver(e)
    }
}

/// Whether pages can be decoded from where they are kept and have their hashes then.
pub fn prove(site: &Site, pages: &[Page], work: &mut Work) -> Result<bool, CUresult> {
    let Some((kernels, scratch)) = site.kernels else {
        for page in pages {
            if !decode_one(site, page, Out::Nowhere, work)? {
                return Ok(false);
            }
        }
        return Ok(true);
    };
    for batch in pages.chunks(scratch.pages) {
        let jobs: Vec<Job<'_>> = (batch.iter().enumerate())
            .map(|(i, page)| Job { page, to: scratch.decoded(i) })
            .collect();
        if !decode_batch(site, kernels, scratch, &jobs, work)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A page to be decoded, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The page.
    pub page: &'a Page,
    /// Device memory.
    pub to: u64,
}

/// Decodes pages to device memory and checks that they are what they were.
pub fn decode(site: &Site, jobs: &[Job<'_>], work: &mut Work) -> Result<(), Failed> {
    let step = site.kernels.map_or(STAGING / PAGE, |(_, scratch)| scratch.pages);
    for (i, batch) in jobs.chunks(step).enumerate() {
        let once = |work: &mut Work| match site.kernels {
            Some((kernels, scratch)) => decode_batch(site, kernels, scratch, batch, work),
            None => decode_on_host(site, batch, work),
        };
        if once(work)? {
            continue;
        }
        // Once more before giving up: a transfer may have failed, not the copy.
        stats::page().verify_failures.add(1);
        if !once(work)? {
            stats::page().verify_failures.add(1);
            let first = i * step;
            let last = first + batch.len() - 1;
            let text = format!("pages {first} to {last} do not have their hashes");
            return Err(Failed::Corrupt(text));
        }
        stats::page().verify_repaired.add(1);
    }
    Ok(())
}

/// Puts into device memory what a kernel works on and what it is told; whether the latter is there
/// as it was sent. Pages have their hashes, but an address that changed on its way would be read
/// from or written to.
pub fn tell(
    ctx: usize,
    sent: &[(u64, &[u8])],
    told: &[(u64, &[u8])],
    back: &mut [u8],
) -> Result<bool, CUresult> {
    let mut rest = back;
    let mut parts = Vec::with_capacity(told.len());
    for (_, bytes) in told {
        let (part, others) = rest.split_at_mut_checked(bytes.len()).ok_or(code::UNKNOWN)?;
        parts.push(part);
        rest = others;
    }
    stream::run(ctx, |queue| {
        sent.iter().try_for_each(|(to, bytes)| queue.up(*to, bytes))?;
        for ((to, bytes), back) in told.iter().zip(&mut parts) {
            queue.up(*to, bytes)?;
            queue.down(*to, back)?;
        }
        Ok(())
    })?;
    Ok(told.iter().zip(&parts).all(|((_, bytes), back)| *bytes == &**back))
}

/// One launch; whether all pages are right.
fn decode_batch(
    site: &Site,
    kernels: Kernels,
    scratch: Scratch,
    jobs: &[Job<'_>],
    work: &mut Work,
) -> Result<bool, CUresult> {
    let ordinal = site.device.ordinal;
    let base = work.store(ordinal).base().ok_or(code::UNKNOWN)?;
    let (mut descriptors, mut pages) = (Vec::new(), Vec::new());
    let mut sent: Vec<(u64, &[u8])> = Vec::new();
    let mut verdicts = vec![0xFFu8; 4 * jobs.len()];
    let Work { arena, stores, back, .. } = work;
    for (i, job) in jobs.iter().enumerate() {
        let bytes = job.page.descriptor.stored();
        let at = match &job.page.kept {
            Kept::Nothing => base,
            Kept::Device(place) => stores[usize::from(ordinal)].address(*place),
            Kept::Host(place) => {
                sent.push((scratch.blob(i), arena.load(*place, bytes).ok_or(code::UNKNOWN)?));
                scratch.blob(i)
            }
            Kept::Draft(draft) => {
                sent.push((scratch.blob(i), draft));
                scratch.blob(i)
            }
        };
        descriptors.extend(job.page.descriptor.at(((at - base) / 16) as u32).0);
        pages.extend(job.to.to_le_bytes());
    }
    let told: [(u64, &[u8]); 2] =
        [(scratch.descriptors(), &descriptors), (scratch.addresses(), &pages)];
    if !tell(site.ctx, &sent, &told, back)? {
        return Ok(false);
    }
    stream::run(site.ctx, |queue| {
        queue.decode(
            kernels,
            &Decode {
                warps: jobs.len() as u32,
                from: scratch.descriptors(),
                blobs: base,
                pages: scratch.addresses(),
                count: jobs.len() as u32,
                verdicts: scratch.words(),
                scratch: scratch.space(),
            },
        )?;
        queue.down(scratch.words(), &mut verdicts)
    })?;
    Ok(verdicts.iter().all(|&b| b == 0))
}

/// As [`decode_batch`] on the host: pages are checked before they go up, and read back when they
/// are there.
fn decode_on_host(site: &Site, jobs: &[Job<'_>], work: &mut Work) -> Result<bool, CUresult> {
    let mut left = jobs;
    while let Some(first) = left.first() {
        // As many as lie one behind the other.
        let mut bytes = 0;
        let mut n = 0;
        for job in left {
            let len = job.page.descriptor.bytes();
            if job.to != first.to + bytes as u64 || bytes + len > STAGING {
                break;
            }
            if !decode_one(site, job.page, Out::Staging(bytes), work)? {
                return Ok(false);
            }
            bytes += len;
            n += 1;
        }
        let (run, rest) = left.split_at(n);
        let Work { staging, back, .. } = work;
        stream::upload(site.ctx, first.to, &staging[..bytes])?;
        let pages = run.iter().map(|job| job.page);
        if !verify::read_back(site.ctx, first.to, pages, &mut back[..bytes])? {
            return Ok(false);
        }
        left = rest;
    }
    Ok(true)
}

enum Out {
    /// Only checked.
    Nowhere,
    /// At this offset of the staging buffer.
    Staging(usize),
}

/// Decodes one page on the host; whether it is right.
fn decode_one(site: &Site, page: &Page, out: Out, work: &mut Work) -> Result<bool, CUresult> {
    let bytes = page.descriptor.stored();
    let from = match page.kept {
        Kept::Device(place) => Some(work.store(site.device.ordinal).address(place)),
        _ => None,
    };
    let Work { arena, coder, staging, back, .. } = work;
    let (back, rest) = back.split_at_mut(PAGE);
    let blob: &[u8] = match (&page.kept, from) {
        (Kept::Nothing, _) => &[],
        (Kept::Host(place), _) => arena.load(*place, bytes).ok_or(code::UNKNOWN)?,
        (Kept::Draft(draft), _) => draft,
        (Kept::Device(_), from) => {
            stream::download(site.ctx, from.unwrap_or(0), &mut back[..bytes])?;
            &back[..bytes]
        }
    };
    let len = page.descriptor.bytes();
    let out = match out {
        Out::Nowhere => rest.get_mut(..len),
        Out::Staging(at) => staging.get_mut(at..at + len),
    };
    let out = out.ok_or(code::UNKNOWN)?;
    Ok(coder.decode(&page.descriptor.0, blob, out).is_ok())
}
