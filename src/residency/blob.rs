//! The bytes of an evicted block: its pages and where each is kept.
#![forbid(unsafe_code)]

use super::ticket::Work;
use crate::codec::Descriptor;
use crate::tier::Place;

/// Where the blob of a page is.
#[derive(Debug)]
pub enum Kept {
    /// Nowhere: the descriptor says it all.
    Nothing,
    /// In the host tier.
    Host(Place),
    /// In the device's store.
    Device(Place),
    /// In host memory of its own, until there is room in a tier: what is evicted first makes that
    /// room, and until its memory is free there is none.
    Draft(Box<[u8]>),
}

/// One coded page.
#[derive(Debug)]
pub struct Page {
    /// What it is.
    pub descriptor: Descriptor,
    /// Where its blob is.
    pub kept: Kept,
}

/// What was one handle of a block.
#[derive(Debug)]
pub struct Part {
    /// First granule, counted from the start of the block.
    pub first: u32,
    /// Granules.
    pub granules: u32,
    /// Its pages in order of address; none where the bytes are still in place, mapped.
    pub pages: Option<Vec<Page>>,
}

/// The bytes of an evicted block.
#[derive(Debug, Default)]
pub struct Blob {
    /// Its parts in order of address.
    pub parts: Vec<Part>,
    /// Granules of the heap that words of this block point into.
    pub outgoing: Vec<u64>,
}

impl Blob {
    /// All pages.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.parts.iter().filter_map(|part| part.pages.as_ref()).flatten()
    }

    /// All pages, to be changed.
    pub fn pages_mut(&mut self) -> impl Iterator<Item = &mut Page> {
        self.parts.iter_mut().filter_map(|part| part.pages.as_mut()).flatten()
    }

    /// Granules that are coded. Asked often: a large block has very many pages, and few parts.
    pub fn granules(&self) -> u64 {
        let coded = self.parts.iter().filter(|part| part.pages.is_some());
        coded.map(|part| u64::from(part.granules)).sum()
    }

    /// True where pages of it are in the device's store.
    pub fn is_stored(&self) -> bool {
        self.pages().any(|page| matches!(page.kept, Kept::Device(_)))
    }

    /// Whether granule `first` of the block begins a part whose bytes are in place.
    pub fn in_place(&self, first: u32) -> bool {
        let covers = |part: &&Part| part.first <= first && first < part.first + part.granules;
        self.parts.iter().find(covers).is_some_and(|part| part.pages.is_none())
    }

    /// True where anything of it is still on the device, coded or in place.
    pub fn is_on_device(&self) -> bool {
        self.parts.iter().any(|part| part.pages.is_none()) || self.is_stored()
    }
}

/// Gives back what keeps the pages of a blob.
pub fn release(blob: Option<Blob>, device: u8, work: &mut Work) {
    for part in blob.into_iter().flat_map(|blob| blob.parts) {
        release_pages(part.pages.into_iter().flatten(), device, work);
    }
}

/// Gives back what keeps some pages of a block of `device`.
pub fn release_pages(pages: impl IntoIterator<Item = Page>, device: u8, work: &mut Work) {
    for page in pages {
        match page.kept {
            Kept::Host(place) => work.arena.release(place),
            Kept::Device(place) => work.store(device).release(place),
            Kept::Nothing | Kept::Draft(_) => {}
        }
    }
}
