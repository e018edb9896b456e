//! Coding and decoding pages of device memory: by kernels on the device, or on the host where the
//! device takes none, where there is no scratch yet, or where the user wants it.
//!
//! Owns: how pages pass through scratch and staging, and that what came of it is checked. Never:
//! which block they are of. The ticket is held, and nothing else can reach the memory.

use super::blob::{Kept, Page};
use super::engine::Device;
use super::scratch::{self, Scratch};
use super::stream::{self, Encode, Kernels};
use super::ticket::{STAGING, Work};
use super::{decode, fence, store, verify};
use crate::codec::cpu::Hint;
use crate::codec::{Descriptor, PAGE};
use crate::config::{self, Verify};
use crate::driver::{CUresult, code};
use crate::fault;
use crate::stats;

/// Where and how pages of a device are worked on.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The device.
    pub device: &'static Device,
    /// A context of it.
    pub ctx: usize,
    /// What works on it there; none where the host does.
    pub kernels: Option<(Kernels, Scratch)>,
}

/// Where blobs are to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the device's store, or until it can grow in drafts.
    Store,
    /// In the device's store, or in the host tier, which has room.
    Either,
    /// In the host tier, which has room.
    Host,
}

/// How the pages of a block were coded: most are alike, so only the first ones are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    hint: Option<Hint>,
    /// Blob bytes of 1,024 bytes.
    ratio: usize,
}

impl Fit {
    /// What to tell the coder.
    fn hint(&self) -> Hint {
        self.hint.unwrap_or_default()
    }

    /// Learns from pages that were coded under it: a worse fit than before means another look.
    fn learn(&mut self, pages: &[Page]) {
        let bytes: usize = pages.iter().map(|p| p.descriptor.bytes()).sum();
        let stored: usize = pages.iter().map(|p| p.descriptor.stored()).sum();
        let ratio = stored * 1024 / bytes.max(1);
        if self.hint.is_some() {
            if ratio > self.ratio + self.ratio / 8 {
                *self = Fit::default();
            }
            return;
        }
        *self = Fit { hint: pages.iter().find_map(|p| p.descriptor.hint()), ratio };
    }
}

impl Site {
    /// For `device`, as things are now.
    pub fn of(device: &'static Device, work: &mut Work) -> Result<Site, CUresult> {
        let ctx = fence::context_on(device.ordinal).ok_or(code::INVALID_CONTEXT)?;
        let kernels = stream::kernels(ctx).and_then(|k| Some((k, scratch::of(device, work)?)));
        Ok(Site { device, ctx, kernels })
    }

    /// True where the device does the work.
    pub fn on_device(&self) -> bool {
        self.kernels.is_some()
    }
}

/// Codes `bytes` of device memory at `from` and appends the pages to `out`, checked. What was
/// appended before an error is the caller's to release.
pub fn encode(
    site: &Site,
    from: u64,
    bytes: u64,
    home: Home,
    fit: &mut Fit,
    work: &mut Work,
    out: &mut Vec<Page>,
) -> Result<(), CUresult> {
    let pages = bytes.div_ceil(PAGE as u64) as usize;
    // The largest piece of bookkeeping; a program without memory must not be ended for it.
    out.try_reserve(pages).map_err(|_| code::OUT_OF_MEMORY)?;
    let step = match site.kernels {
        Some((_, scratch)) => (scratch.pages * PAGE) as u64,
        None => STAGING as u64,
    };
    let mut at = 0;
    while at < bytes {
        fault::point("evict-copying", "");
        let n = (bytes - at).min(step) as usize;
        let first = out.len();
        match site.kernels {
            Some((kernels, scratch)) => {
                on_device(site, kernels, scratch, from + at, n, home, fit, work, out)?;
            }
            None => on_host(site, from + at, n, home, fit, work, out)?,
        }
        fit.learn(&out[first..]);
        count(&out[first..]);
        at += n as u64;
    }
    Ok(())
}

fn count(pages: &[Page]) {
    let page = stats::page();
    for Page { descriptor, .. } in pages {
        if let Some(counter) = page.coded_pages.get(descriptor.mode()) {
            counter.add(1);
        }
        page.coded_bytes.add(descriptor.bytes() as u64);
        page.stored_bytes.add(descriptor.stored() as u64);
    }
}

/// A place for a blob of `bytes`.
fn place(device: &Device, home: Home, bytes: usize, work: &mut Work) -> Result<Kept, CUresult> {
    if bytes == 0 {
        return Ok(Kept::Nothing);
    }
    let kept = match home {
        Home::Store => store::take(device, work, bytes).map(Kept::Device),
        Home::Host => work.arena.take(bytes).map(Kept::Host),
        Home::Either => {
            let stored = store::take(device, work, bytes).map(Kept::Device);
            stored.or_else(|| work.arena.take(bytes).map(Kept::Host))
        }
    };
    if let Some(kept) = kept {
        return Ok(kept);
    }
    draft(bytes).map(Kept::Draft)
}

fn lengths(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).step_by(PAGE).map(move |at| (bytes - at).min(PAGE))
}

#[allow(clippy::too_many_arguments, reason = "one step of `encode`, which has them all")]
fn on_device(
    site: &Site,
    kernels: Kernels,
    scratch: Scratch,
    from: u64,
    bytes: usize,
    home: Home,
    fit: &Fit,
    work: &mut Work,
    out: &mut Vec<Page>,
) -> Result<(), CUresult> {
    let count = bytes.div_ceil(PAGE);
    let pages: Vec<u8> =
        (0..count).flat_map(|i| (from + (i * PAGE) as u64).to_le_bytes()).collect();
    let lens: Vec<u8> = lengths(bytes).flat_map(|n| (n as u32).to_le_bytes()).collect();
    let mut descriptors = vec![Descriptor::default(); count];
    {
        let mut raw = vec![0u8; 32 * count];
        let told: [(u64, &[u8]); 2] = [(scratch.addresses(), &pages), (scratch.words(), &lens)];
        if !decode::tell(site.ctx, &[], &told, &mut work.back)? {
            verify::distrust();
            return Err(code::UNKNOWN);
        }
        stream::run(site.ctx, |queue| {
            queue.encode(
                kernels,
                &Encode {
                    warps: count as u32,
                    pages: scratch.addresses(),
                    lens: scratch.words(),
                    hint: fit.hint(),
                    count: count as u32,
                    to: scratch.descriptors(),
                    blobs: scratch.blob(0),
                    scratch: scratch.space(),
                },
            )?;
            queue.down(scratch.descriptors(), &mut raw)
        })?;
        for (descriptor, raw) in descriptors.iter_mut().zip(raw.as_chunks::<32>().0) {
            *descriptor = Descriptor(*raw);
        }
    }
    let first = out.len();
    for (descriptor, len) in descriptors.iter().zip(lengths(bytes)) {
        // What the device says is not relied on where it would lead somewhere else.
        if descriptor.bytes() != len || descriptor.stored() > PAGE {
            verify::distrust();
            return Err(code::UNKNOWN);
        }
        let kept = place(site.device, home, descriptor.stored(), work)?;
        out.push(Page { descriptor: *descriptor, kept });
    }
    move_out(site, scratch, from, &mut out[first..], work)?;
    if config::get().verify != Verify::Restore {
        if !decode::prove(site, &out[first..], work)? {
            verify::distrust();
            return Err(code::UNKNOWN);
        }
        stats::page().bytes_verified.add(bytes as u64);
    }
    Ok(())
}

/// Copies blobs from the scratch (or, where a page is as it was, from the page) to their places.
fn move_out(
    site: &Site,
    scratch: Scratch,
    from: u64,
    pages: &mut [Page],
    work: &mut Work,
) -> Result<(), CUresult> {
    let (mut inside, mut down, mut places, mut drafts) = (vec![], vec![], vec![], vec![]);
    for (i, page) in pages.iter_mut().enumerate() {
        let raw = page.descriptor.is_raw();
        let at = if raw { from + (i * PAGE) as u64 } else { scratch.blob(i) };
        let bytes = page.descriptor.stored();
        match &mut page.kept {
            Kept::Nothing => {}
            Kept::Device(place) => {
                inside.push((work.store(site.device.ordinal).address(*place), at, bytes));
            }
            Kept::Host(place) => {
                down.push(at);
                places.push((*place, bytes));
            }
            Kept::Draft(draft) => drafts.push((at, draft)),
        }
    }
    let parts = work.arena.parts_mut(&places);
    stream::run(site.ctx, |queue| {
        for (to, from, bytes) in inside {
            queue.copy(to, from, bytes)?;
        }
        for (from, part) in down.into_iter().zip(parts) {
            queue.down(from, part)?;
        }
        drafts.into_iter().try_for_each(|(from, draft)| queue.down(from, draft))
    })
}

fn on_host(
    site: &Site,
    from: u64,
    bytes: usize,
    home: Home,
    fit: &Fit,
    work: &mut Work,
    out: &mut Vec<Page>,
) -> Result<(), CUresult> {
    let first = out.len();
    stream::download(site.ctx, from, &mut work.staging[..bytes])?;
    // The bus is faster than this processor: bytes that leave the device are coded only where host
    // memory gets short.
    let plain = home == Home::Host && work.arena.used() < work.arena.limit() / 2;
    let Work { arena, staging, coder, .. } = work;
    for page in staging[..bytes].chunks(PAGE) {
        let (descriptor, blob) = if plain {
            let descriptor = Descriptor::plain(page);
            (descriptor, if descriptor.is_raw() { page } else { &[] })
        } else {
            let (descriptor, blob) = coder.encode(page, fit.hint());
            (Descriptor(descriptor), blob)
        };
        let stored = if home == Home::Host { arena.store(blob) } else { None };
        let kept = match stored {
            _ if blob.is_empty() => Kept::Nothing,
            Some(place) => Kept::Host(place),
            None => {
                let mut draft = draft(descriptor.stored())?;
                draft[..blob.len()].copy_from_slice(blob);
                Kept::Draft(draft)
            }
        };
        out.push(Page { descriptor, kept });
    }
    store::settle(site.device, site.ctx, out[first..].iter_mut(), work);
    if config::get().verify == Verify::Restore {
        return Ok(());
    }
    let pages = &out[first..];
    if !decode::prove(site, pages, work)?
        || !verify::read_back(site.ctx, from, pages, &mut work.back[..bytes])?
    {
        verify::distrust();
        return Err(code::UNKNOWN);
    }
    stats::page().bytes_verified.add(bytes as u64);
    Ok(())
}

fn draft(bytes: usize) -> Result<Box<[u8]>, CUresult> {
    let mut draft = Vec::new();
    draft.try_reserve_exact(bytes).map_err(|_| code::OUT_OF_MEMORY)?;
    draft.resize(bytes, 0);
    Ok(draft.into_boxed_slice())
}
