//! Physical memory of the device's store: it grows out of what evictions free, gives back what is
//! empty, moves what keeps almost empty segments, and moves on to the host tier.
//!
//! Only with the ticket. What is moved is proved at its new place before the old one is given up.

use super::blob::{Blob, Kept, Page, release_pages};
use super::block::{BLOCKS, Block};
use super::coder::Site;
use super::decode;
use super::engine::Device;
use super::state::Event;
use super::ticket::{STAGING, Work};
use super::{memory, scratch, stream};
use crate::codec::PAGE;
use crate::config;
use crate::driver::{CUresult, code};
use crate::fault;
use crate::stats;
use crate::tier::Place;
use crate::vmm;
use std::sync::atomic::Ordering;

/// How much of the limit the store may take where there is host memory to move on to.
const SHARE: u64 = 4;

/// True while the store may grow: all it likes where nothing else can take the bytes.
pub fn has_share(device: &Device, work: &mut Work) -> bool {
    work.arena.limit() == 0 || work.store(device.ordinal).bytes() < device.limit / SHARE
}

/// Room for `bytes` in the store, which grows if it must and can.
pub fn take(device: &Device, work: &mut Work, bytes: usize) -> Option<Place> {
    if let Some(place) = work.store(device.ordinal).take(bytes) {
        return Some(place);
    }
    grow(device, work, bytes as u64)?;
    work.store(device.ordinal).take(bytes)
}

/// Adds a segment: of the usual size, or of what is there.
fn grow(device: &Device, work: &mut Work, bytes: u64) -> Option<()> {
    if !scratch::open(device, work) {
        return None;
    }
    fault::point("store-grows", "");
    let store = work.store(device.ordinal);
    let at = store.next()?;
    let granule = device.sizes.granule;
    let (whole, least) = (store.stride() / granule, bytes.div_ceil(granule));
    let there = (memory::pooled(device) / granule).min(whole);
    let handles = memory::spare(device, whole as u32)
        .or_else(|| (there >= least).then(|| memory::spare(device, there as u32))?)?;
    let granules: u64 = handles.iter().map(|h| u64::from(h.granules)).sum();
    memory::map_run(device, at, 0, &handles).ok()?;
    work.store(device.ordinal).add(handles, granules * granule);
    Some(())
}

/// Gives the memory of empty segments back to the pool.
pub fn shrink(device: &Device, work: &mut Work) {
    let store = work.store(device.ordinal);
    while let Some((piece, at, bytes)) = store.empty() {
        if vmm::unmap(at, bytes as usize).is_err() {
            return;
        }
        memory::pool(device, store.remove(piece));
    }
}

/// Finds a place in a tier for pages that have none.
pub fn settle<'a>(
    device: &Device,
    ctx: usize,
    pages: impl Iterator<Item = &'a mut Page>,
    work: &mut Work,
) {
    let mut drafts: Vec<&mut Page> =
        pages.filter(|page| matches!(page.kept, Kept::Draft(_))).collect();
    // All of them fit into the buffer that they are read back to.
    for some in drafts.chunks_mut(STAGING / PAGE) {
        settle_some(device, ctx, some, work);
    }
}

fn settle_some(device: &Device, ctx: usize, pages: &mut [&mut Page], work: &mut Work) {
    let room = Vec::with_capacity(pages.len());
    let mut moved = Moved { pages: room, device: device.ordinal, work };
    let mut drafts = Vec::with_capacity(pages.len());
    for page in pages {
        let Kept::Draft(bytes) = &page.kept else { continue };
        if let Some(place) = take(device, moved.work, bytes.len()) {
            let kept = Kept::Device(place);
            moved.pages.push(Page { descriptor: page.descriptor, kept });
            drafts.push(page);
        } else if let Some(place) = moved.work.arena.store(bytes) {
            page.kept = Kept::Host(place);
        }
    }
    let Moved { pages: new, work, .. } = &mut moved;
    let Work { back, stores, .. } = &mut **work;
    let store = &stores[usize::from(device.ordinal)];
    let mut rest = &mut back[..];
    let mut sent: Vec<(u64, &[u8])> = Vec::with_capacity(drafts.len());
    let mut returned = Vec::with_capacity(drafts.len());
    for (page, new) in drafts.iter().zip(&*new) {
        let (Kept::Draft(bytes), Kept::Device(place)) = (&page.kept, &new.kept) else { return };
        let Some((part, others)) = rest.split_at_mut_checked(bytes.len()) else { return };
        sent.push((store.address(*place), bytes));
        returned.push(part);
        rest = others;
    }
    let arrived = stream::run(ctx, |queue| {
        sent.iter().try_for_each(|&(to, bytes)| queue.up(to, bytes))?;
        let back = returned.iter_mut().map(|part| &mut **part);
        sent.iter().zip(back).try_for_each(|(&(from, _), part)| queue.down(from, part))
    });
    if arrived.is_err() {
        return;
    }
    let same: Vec<bool> = sent.iter().zip(&returned).map(|((_, a), b)| *a == &**b).collect();
    for ((page, new), same) in drafts.into_iter().zip(new).zip(same) {
        if same {
            std::mem::swap(*page, new);
        } else {
            stats::page().verify_failures.add(1);
        }
    }
}

/// Makes the store smaller by moving blocks on to the host tier, coldest first, until `wanted`
/// bytes of it are free or nothing more can be moved. `kept` pages of the host tier stay free.
pub fn spill(site: &Site, wanted: u64, kept: usize, work: &mut Work) {
    let device = site.device;
    let mut order: Vec<(u64, u32)> =
        blocks(device).map(|id| (BLOCKS.get(id).last_use.load(Ordering::Relaxed), id)).collect();
    order.sort_unstable();
    let goal = work.store(device.ordinal).free().saturating_add(wanted);
    // Asked for many pages at a time: the question is not cheap.
    let mut granted = 0;
    for (_, id) in order {
        if work.store(device.ordinal).free() >= goal {
            break;
        }
        let moved = move_pages(
            site,
            BLOCKS.get(id),
            work,
            |_| true,
            |work, bytes| {
                if granted == 0 {
                    let room = |n: usize, work: &mut Work| {
                        work.arena.make_room(n + kept, config::host::headroom).is_ok().then_some(n)
                    };
                    granted = room(BATCH, work).or_else(|| room(1, work))?;
                }
                granted -= 1;
                work.arena.take(bytes).map(Kept::Host)
            },
        );
        if moved.is_err() {
            break;
        }
    }
    shrink(device, work);
}

/// Moves what is in almost empty segments to gaps elsewhere, as long as that pays.
pub fn compact(site: &Site, work: &mut Work) {
    let device = site.device;
    shrink(device, work);
    while let Some(piece) = work.store(device.ordinal).emptiest() {
        for id in blocks(device).collect::<Vec<_>>() {
            let moved = move_pages(
                site,
                BLOCKS.get(id),
                work,
                |place| place.piece == piece,
                |work, bytes| {
                    work.store(device.ordinal).take_outside(bytes, piece).map(Kept::Device)
                },
            );
            if moved.is_err() {
                return;
            }
        }
        if work.store(device.ordinal).live(piece) > 0 {
            return;
        }
        stats::page().store_compactions.add(1);
        shrink(device, work);
    }
}

/// Blocks of `device` with pages in its store.
fn blocks(device: &Device) -> impl Iterator<Item = u32> {
    let ordinal = device.ordinal;
    BLOCKS.ids().filter(move |&id| {
        let block = BLOCKS.get(id);
        block.device() == ordinal
            && block.word.load().state().is_evicted()
            && block.cold.lock().blob.as_ref().is_some_and(Blob::is_stored)
    })
}

/// So many pages are moved at a time.
const BATCH: usize = 128;

/// The copy of an evicted block, taken out to be changed; it comes back whatever happens. The ticket
/// keeps out whoever would miss it.
struct Borrowed {
    block: &'static Block,
    blob: Blob,
}

impl Borrowed {
    fn of(block: &'static Block) -> Option<Borrowed> {
        let blob = block.cold.lock().blob.take()?;
        Some(Borrowed { block, blob })
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if !self.blob.is_on_device() {
            let _ = self.block.word.apply(Event::Spill);
        }
        self.block.cold.lock().blob = Some(std::mem::take(&mut self.blob));
    }
}

/// Moves pages of an evicted block that are in the store and `which` names to where `take` says.
/// An error ends it: no more room, or a driver that does not copy.
fn move_pages(
    site: &Site,
    block: &'static Block,
    work: &mut Work,
    which: impl Fn(Place) -> bool,
    mut take: impl FnMut(&mut Work, usize) -> Option<Kept>,
) -> Result<(), CUresult> {
    let Some(mut borrowed) = Borrowed::of(block) else { return Ok(()) };
    let wanted = |page: &&mut Page| matches!(page.kept, Kept::Device(place) if which(place));
    let mut pages: Vec<&mut Page> = borrowed.blob.pages_mut().filter(wanted).collect();
    for batch in pages.chunks_mut(BATCH) {
        move_batch(site, batch, work, &mut take)?;
    }
    Ok(())
}

/// Copies that are to replace others, or were replaced: their places go with them, after a panic as
/// well.
struct Moved<'a> {
    pages: Vec<Page>,
    device: u8,
    work: &'a mut Work,
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        release_pages(self.pages.drain(..), self.device, self.work);
    }
}

fn move_batch(
    site: &Site,
    pages: &mut [&mut Page],
    work: &mut Work,
    take: &mut impl FnMut(&mut Work, usize) -> Option<Kept>,
) -> Result<(), CUresult> {
    let room = Vec::with_capacity(pages.len());
    let mut moved = Moved { pages: room, device: site.device.ordinal, work };
    for page in pages.iter() {
        match take(moved.work, page.descriptor.stored()) {
            Some(kept) => moved.pages.push(Page { descriptor: page.descriptor, kept }),
            None => break,
        }
    }
    fault::point("store-moves", "");
    let all = moved.pages.len() == pages.len();
    let copied = copy(site, pages, &moved.pages, moved.work);
    let proved = copied.and_then(|()| decode::prove(site, &moved.pages, moved.work));
    if let Ok(true) = proved {
        pages.iter_mut().zip(&mut moved.pages).for_each(|(page, new)| std::mem::swap(*page, new));
    } else if proved.is_ok() {
        stats::page().verify_failures.add(1);
    }
    proved?;
    if all { Ok(()) } else { Err(code::OUT_OF_MEMORY) }
}

/// Copies the blobs of `from`, which are in the store, to where `to` are kept.
fn copy(site: &Site, from: &[&mut Page], to: &[Page], work: &mut Work) -> Result<(), CUresult> {
    let store = work.store(site.device.ordinal);
    let (mut inside, mut down, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (old, new) in from.iter().zip(to) {
        let Kept::Device(place) = old.kept else { continue };
        let (at, bytes) = (store.address(place), old.descriptor.stored());
        match new.kept {
            Kept::Device(place) => inside.push((store.address(place), at, bytes)),
            Kept::Host(place) => {
                down.push(at);
                places.push((place, bytes));
            }
            Kept::Nothing | Kept::Draft(_) => {}
        }
    }
    let parts = work.arena.parts_mut(&places);
    stream::run(site.ctx, |queue| {
        for &(to, from, bytes) in &inside {
            queue.copy(to, from, bytes)?;
        }
        down.iter().zip(parts).try_for_each(|(&from, part)| queue.down(from, part))
    })
}
