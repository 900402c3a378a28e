//! PageAllocator: finds runs of free pages, the lowest first. Go: mpagealloc.go.
//!
//! 1. The heap's addresses are cut into chunks of 512 pages (4 MiB). A chunk's bitmaps say which pages are in use,
//!    and which of the free ones have no memory (bits.rs): 128 bytes. Some chunks are to be mapped by huge pages, the others by small ones
//!    ([`Mapping`]): who takes pages says of which, who gives them back need not.
//! 2. A [`Summary`] is what the search needs to know of a stretch of addresses: how many pages are free at its start, in the longest run
//!    inside, and at its end. Each chunk has one, each eight neighbours have one for all of them, and so on for five levels (tree.rs). Each
//!    mapping has such a tree of its own, in which the other's chunks are full (finder.rs).
//! 3. To find a run, the walk adds the free pages at the end of one stretch to those at the start of the next. A stretch whose longest run
//!    is too short is passed in one step, one that has a fit is entered, until the run spans chunks or one bitmap has it.
//! 4. A hint says below which page nothing is free, so that the walk does not begin at 0. Taking and giving back change bitmaps; the
//!    summaries follow when the tree is next asked, that is when the hint's chunk has no fit, or when a chunk far away changes.
//! 5. A CPU takes all that is free of 64 neighbouring pages at once (cache.rs), and makes spans of them without coming here.
//! 6. Free pages may have no memory: they never had any, or have given it back to the platform. Who takes them sees to it that they get it,
//!    2 MiB at once where that is possible (huge.rs).
//!
//! Pages are numbered from the start of the heap's addresses. A page is in use, free, or not there: what was never added, in gaps too,
//! looks as if it were in use, and nobody gives it back. All of it is under the page heap's lock.
//!
//! Memory for a GiB of heap: 34 KiB for chunks, 2.3 KiB of summaries for each mapping. At least 44 KiB: the first frame of each table.

mod bits;
mod cache;
mod finder;
mod huge;
mod summary;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use bits::CHUNK_PAGES;
pub(crate) use cache::{CACHE_PAGES, PageCache};
pub(crate) use huge::HUGE_PAGES;

use super::table::Table;
use crate::addr::Bytes;
use crate::platform::{OutOfFrames, Platform};
use bits::{Chunk, PageBits};
use core::ops::Range;
use finder::Finder;

/// How the platform is to map a chunk's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mapping {
    /// By pages of 2 MiB, as far as there are frames of that size and all of one is free when it is taken.
    Huge,
    /// By pages of 4 KiB alone.
    Small,
}

/// Neighbouring pages taken to release their memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) pages: usize,
    /// How many have any.
    pub(crate) with_memory: usize,
    pub(crate) mapping: Mapping,
}

pub(crate) struct PageAllocator {
    chunks: Table<Chunk, 4096>,
    /// By [`Mapping`].
    finders: [Finder; 2],
}

impl PageAllocator {
    pub(crate) const fn new() -> PageAllocator {
        PageAllocator { chunks: Table::new(), finders: [Finder::new(Mapping::Huge), Finder::new(Mapping::Small)] }
    }

    /// Takes addresses for the records of so many chunks, once.
    pub(crate) fn reserve(&mut self, platform: &dyn Platform, chunks: usize) -> bool {
        self.chunks.reserve(platform, chunks)
            && self.finders.iter_mut().all(|finder| finder.tree.reserve(platform, chunks))
    }

    /// The memory of bitmaps and summaries.
    pub(crate) fn records(&self) -> Bytes {
        Bytes(self.chunks.committed().0 + self.finders.iter().map(|finder| finder.tree.committed().0).sum::<usize>())
    }

    /// Sees to it that chunks up to `end` can be added. On failure nothing has changed.
    pub(crate) fn make_room(&mut self, platform: &dyn Platform, end: usize) -> Result<(), OutOfFrames> {
        self.chunks.make_room(platform, end.saturating_sub(self.chunks.entries().len()))?;
        self.finders.iter_mut().try_for_each(|finder| finder.tree.make_room(platform, end))
    }

    /// Adds the free pages of `chunks` chunks from number `first` on, none of which is there, and for which there is
    /// room. They stay mapped so.
    pub(crate) fn add(&mut self, mapping: Mapping, first: usize, chunks: usize) {
        while self.chunks.entries().len() < first + chunks {
            self.chunks.push(Chunk::ABSENT);
        }
        self.finders.iter_mut().for_each(|finder| finder.tree.grow(first + chunks));
        self.chunks.entries_mut()[first..first + chunks].iter_mut().for_each(|chunk| chunk.mapping = mapping);
        self.give_back(first * CHUNK_PAGES, chunks * CHUNK_PAGES);
    }

    /// Takes the lowest run of `pages` (at least one) free pages that are mapped so and whose number is a multiple of
    /// `align`, and returns its first. O(1) but for `pages`; with an `align` above 1, the more unaligned runs are long
    /// enough, the longer.
    pub(crate) fn take(&mut self, mapping: Mapping, pages: usize, align: usize) -> Option<usize> {
        let (finder, chunks) = (&mut self.finders[mapping as usize], self.chunks.entries());
        let mut first = finder.find(chunks, finder.hint, pages)?;
        while !first.is_multiple_of(align) {
            first = finder.find(chunks, first.next_multiple_of(align), pages)?;
        }
        let finder = self.for_each_chunk(first, pages, PageBits::take);
        // A single page's place is the lowest that is free at all.
        if first == finder.hint || pages == 1 && align == 1 {
            finder.hint = first + pages;
        }
        Some(first)
    }

    /// Makes pages that were taken free again. O(pages).
    pub(crate) fn give_back(&mut self, first: usize, pages: usize) {
        let finder = self.for_each_chunk(first, pages, PageBits::give_back);
        finder.hint = finder.hint.min(first);
    }

    /// Brings the summaries up to date.
    pub(crate) fn summarize(&mut self) {
        self.finders.iter_mut().for_each(|finder| finder.summarize(self.chunks.entries()));
    }

    /// Takes what is free of the 64 pages with the lowest free one that is mapped so. Go: allocToCache.
    pub(crate) fn take_cache(&mut self, mapping: Mapping) -> Option<PageCache> {
        let page = self.lowest_free(mapping)?;
        let (number, first) = (page / CHUNK_PAGES, page - page % CACHE_PAGES);
        let chunk = &mut self.chunks.entries_mut()[number];
        let free = !chunk.used.block(page % CHUNK_PAGES);
        let released = chunk.released.block(page % CHUNK_PAGES) & free;
        let word = first % CHUNK_PAGES / 64;
        chunk.used.take_mask(word, free);
        chunk.released.give_back_mask(word, released);
        self.note_change(number, number).hint = first + CACHE_PAGES;
        Some(PageCache { first, free, released })
    }

    /// Takes back what is left in a cache, which is empty then.
    pub(crate) fn give_back_cache(&mut self, cache: &mut PageCache) {
        let PageCache { first, free, released } = core::mem::replace(cache, PageCache::EMPTY);
        if free == 0 {
            return;
        }
        let (number, word) = (first / CHUNK_PAGES, first % CHUNK_PAGES / 64);
        let chunk = &mut self.chunks.entries_mut()[number];
        chunk.used.give_back_mask(word, free);
        chunk.released.take_mask(word, released);
        let finder = self.note_change(number, number);
        finder.hint = finder.hint.min(first);
    }

    /// The lowest run without memory in `taken` pages, as far as it lies in one chunk, and how long it is. For who took them, to see to it.
    pub(crate) fn next_released(&self, taken: Range<usize>) -> Option<(usize, usize)> {
        let mut at = taken.start;
        while at < taken.end {
            let chunk = at / CHUNK_PAGES * CHUNK_PAGES;
            let released = &self.chunks.entries()[at / CHUNK_PAGES].released;
            if let Some(page) = released.next_used(at - chunk) {
                let start = chunk + page;
                let end = chunk + released.next_free(page).unwrap_or(CHUNK_PAGES);
                return (start < taken.end).then(|| (start, end.min(taken.end) - start));
            }
            at = chunk + CHUNK_PAGES;
        }
        None
    }

    /// How many of these pages have no memory. For who took them.
    pub(crate) fn released_in(&self, taken: Range<usize>) -> usize {
        let (mut at, mut pages) = (taken.start, 0);
        while let Some((start, run)) = self.next_released(at..taken.end) {
            (at, pages) = (start + run, pages + run);
        }
        pages
    }

    /// How many pages are free and have memory.
    pub(crate) fn free_with_memory(&self) -> usize {
        self.chunks.entries().iter().map(Chunk::free_with_memory).sum()
    }

    /// Notes of a run in one chunk whether it has no memory. For who took it.
    pub(crate) fn set_released(&mut self, first: usize, pages: usize, released: bool) {
        let bits = &mut self.chunks.entries_mut()[first / CHUNK_PAGES].released;
        match released {
            true => bits.take(first % CHUNK_PAGES, pages),
            false => bits.give_back(first % CHUNK_PAGES, pages),
        }
    }

    /// Takes the highest run of free pages below page `end`, in one chunk, that have memory. The highest, because the
    /// lowest are taken again first. O(chunks passed over).
    pub(crate) fn take_releasable(&mut self, end: usize) -> Option<Run> {
        let end = end.min(self.end());
        let (number, (first, pages)) = (0..end.div_ceil(CHUNK_PAGES)).rev().find_map(|number| {
            let end = (end - number * CHUNK_PAGES).min(CHUNK_PAGES);
            Some((number, self.chunks.entries()[number].last_releasable(end)?))
        })?;
        self.chunks.entries_mut()[number].used.take(first, pages);
        self.note_change(number, number);
        let first = number * CHUNK_PAGES + first;
        Some(Run { first, pages, with_memory: pages, mapping: self.mapping(first) })
    }

    /// Gives pages back that were taken to be released, and have been.
    pub(crate) fn give_back_released(&mut self, run: Run) {
        self.set_released(run.first, run.pages, true);
        self.give_back(run.first, run.pages);
    }

    /// The lowest free page that is mapped so.
    pub(crate) fn lowest_free(&mut self, mapping: Mapping) -> Option<usize> {
        let finder = &mut self.finders[mapping as usize];
        finder.find(self.chunks.entries(), finder.hint, 1)
    }

    /// How many chunks to add at the end so that `take` with these arguments, which found nothing, succeeds.
    pub(crate) fn missing_chunks(&self, mapping: Mapping, pages: usize, align: usize) -> usize {
        let mut free = 0;
        for bits in self.chunks.entries().iter().rev().map(|chunk| chunk.bits(mapping)) {
            free += bits.trailing_free();
            if *bits != PageBits::FREE {
                break;
            }
        }
        let first = (self.end() - free).next_multiple_of(align);
        (first + pages - self.end()).div_ceil(CHUNK_PAGES)
    }

    /// The pages there are, gaps among them.
    pub(crate) fn end(&self) -> usize {
        self.chunks.entries().len() * CHUNK_PAGES
    }

    /// How many pages that are mapped so have memory, all those counted that caches have, and of huge ones what is not there.
    pub(crate) fn with_memory(&self, mapping: Mapping) -> usize {
        let chunks = self.chunks.entries().iter().filter(|chunk| chunk.mapping == mapping);
        chunks.map(|chunk| CHUNK_PAGES - chunk.released.used()).sum()
    }

    pub(crate) fn used(&self) -> usize {
        self.chunks.entries().iter().map(|chunk| chunk.used.used()).sum()
    }

    pub(crate) fn is_used(&self, page: usize) -> bool {
        self.chunks.entries().get(page / CHUNK_PAGES).is_some_and(|chunk| chunk.used.is_used(page % CHUNK_PAGES))
    }

    /// Whether a page that is there has no memory; of a CPU's supply the supply knows it.
    pub(crate) fn is_released(&self, page: usize) -> bool {
        self.chunks.entries()[page / CHUNK_PAGES].released.is_used(page % CHUNK_PAGES)
    }

    /// How a page that is there is mapped.
    pub(crate) fn mapping(&self, page: usize) -> Mapping {
        self.chunks.entries()[page / CHUNK_PAGES].mapping
    }

    pub(crate) fn check_tables(&self) -> bool {
        self.chunks.check() && self.finders.iter().all(|finder| finder.check_tables(self.chunks.entries()))
    }

    pub(crate) fn check_hints(&self) -> bool {
        self.finders.iter().all(|finder| finder.check_hint(self.chunks.entries()))
    }

    fn for_each_chunk(&mut self, first: usize, pages: usize, change: fn(&mut PageBits, usize, usize)) -> &mut Finder {
        let end = first + pages;
        let mut at = first;
        while at < end {
            let chunk = at / CHUNK_PAGES;
            let stop = end.min((chunk + 1) * CHUNK_PAGES);
            change(&mut self.chunks.entries_mut()[chunk].used, at % CHUNK_PAGES, stop - at);
            at = stop;
        }
        self.note_change(first / CHUNK_PAGES, (end - 1) / CHUNK_PAGES)
    }

    /// Tells the finder of these chunks, which are all mapped alike, that pages were taken or given back, and returns it.
    fn note_change(&mut self, first: usize, last: usize) -> &mut Finder {
        let chunks = self.chunks.entries();
        let finder = &mut self.finders[chunks[first].mapping as usize];
        finder.note_change(chunks, first, last);
        finder
    }
}

#[cfg(test)]
impl PageAllocator {
    /// For corruption.rs: the words of a page's bits, how its chunk is mapped.
    pub(super) fn places_of(&self, page: usize) -> (*const u64, *const u64, *const u8) {
        let chunk = &self.chunks.entries()[page / CHUNK_PAGES];
        let word = |bits: &PageBits| &raw const bits.words()[page % CHUNK_PAGES / 64];
        (word(&chunk.used), word(&chunk.released), (&raw const chunk.mapping).cast())
    }

    /// For corruption.rs: the hint, how many chunks there are.
    pub(super) fn places(&self, mapping: Mapping) -> (*const usize, *const usize) {
        (&raw const self.finders[mapping as usize].hint, self.chunks.length_place())
    }

    /// For corruption.rs: the first summary of each level, and how many leaves there are.
    pub(super) fn summary_places(&self, mapping: Mapping) -> ([*const u64; 5], *const usize) {
        self.finders[mapping as usize].tree.places()
    }
}
