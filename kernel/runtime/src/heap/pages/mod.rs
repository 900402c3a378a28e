//! PageAllocator: finds runs of free pages, the lowest first. Go: mpagealloc.go.
//!
//! 1. The heap's addresses are cut into chunks of 512 pages (4 MiB). A chunk's bitmaps say which pages are in use,
//!    and which of the free ones have no memory (bits.rs): 128 bytes.
//! 2. A [`Summary`] is what the search needs to know of a stretch of addresses: how many pages are free at its start, in the longest run
//!    inside, and at its end. Each chunk has one, each eight neighbours have one for all of them, and so on for five levels (tree.rs).
//! 3. To find a run, the walk adds the free pages at the end of one stretch to those at the start of the next. A stretch whose longest run
//!    is too short is passed in one step, one that has a fit is entered, until the run spans chunks or one bitmap has it.
//! 4. A hint says below which page nothing is free, so that the walk does not begin at 0. Taking and giving back change bitmaps; the
//!    summaries follow when the tree is next asked, that is when the hint's chunk has no fit, or when a chunk far away changes.
//! 5. A CPU takes all that is free of 64 neighbouring pages at once (cache.rs), and makes spans of them without coming here.
//! 6. Free pages may have no memory: they never had any, or have given it back to the platform. Who takes them gets it before they become
//!    a span, all of a huge page at once where that is possible (huge.rs).
//!
//! Pages are numbered from the start of the heap's addresses. A page is in use, free, or not there: what was never added, in gaps too,
//! looks as if it were in use, and nobody gives it back. All of it is under the page heap's lock.
//!
//! Memory for a GiB of heap: 32 KiB of bitmaps, 2.3 KiB of summaries. At least 24 KiB: the first frame of each table.

mod bits;
mod cache;
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
use summary::Summary;
use tree::{Place, Tree};

/// Changed chunks so near each other have their summaries made together, with those in between.
const NEAR: usize = 16;

/// Neighbouring pages taken to release their memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) pages: usize,
    /// How many have any.
    pub(crate) with_memory: usize,
}

pub(crate) struct PageAllocator {
    chunks: Table<Chunk, 4096>,
    tree: Tree,
    /// No page below is free. Go: `searchAddr`.
    hint: usize,
    /// Chunks that have changed since their summaries were made, first and last. None while the tree is asked.
    stale: Option<(usize, usize)>,
}

impl PageAllocator {
    pub(crate) const fn new() -> PageAllocator {
        PageAllocator { chunks: Table::new(), tree: Tree::new(), hint: 0, stale: None }
    }

    /// Takes addresses for the records of so many chunks, once.
    pub(crate) fn reserve(&mut self, platform: &dyn Platform, chunks: usize) -> bool {
        self.chunks.reserve(platform, chunks) && self.tree.reserve(platform, chunks)
    }

    /// The memory of bitmaps and summaries.
    pub(crate) fn records(&self) -> Bytes {
        Bytes(self.chunks.committed().0 + self.tree.committed().0)
    }

    /// Sees to it that chunks up to `end` can be added. On failure nothing has changed.
    pub(crate) fn make_room(&mut self, platform: &dyn Platform, end: usize) -> Result<(), OutOfFrames> {
        self.chunks.make_room(platform, end.saturating_sub(self.chunks.entries().len()))?;
        self.tree.make_room(platform, end)
    }

    /// Adds the free pages of `chunks` chunks from number `first` on, none of which is there, and for which there is room.
    pub(crate) fn add(&mut self, first: usize, chunks: usize) {
        while self.chunks.entries().len() < first + chunks {
            self.chunks.push(Chunk::ABSENT);
        }
        self.tree.grow(first + chunks);
        self.give_back(first * CHUNK_PAGES, chunks * CHUNK_PAGES);
    }

    /// Takes the lowest run of `pages` (at least one) free pages whose number is a multiple of `align`, and returns its first. O(1) but for
    /// `pages`; with an `align` above 1, the more unaligned runs are long enough, the longer.
    pub(crate) fn take(&mut self, pages: usize, align: usize) -> Option<usize> {
        let mut first = self.find(self.hint, pages)?;
        while !first.is_multiple_of(align) {
            first = self.find(first.next_multiple_of(align), pages)?;
        }
        self.for_each_chunk(first, pages, PageBits::take);
        // A single page's place is the lowest that is free at all.
        if first == self.hint || pages == 1 && align == 1 {
            self.hint = first + pages;
        }
        Some(first)
    }

    /// Makes pages that were taken free again. O(pages).
    pub(crate) fn give_back(&mut self, first: usize, pages: usize) {
        self.for_each_chunk(first, pages, PageBits::give_back);
        self.hint = self.hint.min(first);
    }

    /// Brings the summaries up to date.
    pub(crate) fn summarize(&mut self) {
        if let Some((first, last)) = self.stale.take() {
            self.update(first, last);
        }
    }

    /// Takes what is free of the 64 pages with the lowest free one. Go: allocToCache.
    pub(crate) fn take_cache(&mut self) -> Option<PageCache> {
        let page = self.lowest_free()?;
        let (number, first) = (page / CHUNK_PAGES, page - page % CACHE_PAGES);
        let chunk = &mut self.chunks.entries_mut()[number];
        let (free, released) = (!chunk.used.block(page % CHUNK_PAGES), chunk.released.block(page % CHUNK_PAGES));
        let word = first % CHUNK_PAGES / 64;
        chunk.used.take_mask(word, free);
        chunk.released.give_back_mask(word, released);
        self.note_change(number, number);
        self.hint = first + CACHE_PAGES;
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
        self.note_change(number, number);
        self.hint = self.hint.min(first);
    }

    /// The lowest run without memory of `pages` taken from `first` on, and how long it is. For who took them, to see to it.
    pub(crate) fn next_released(&self, first: usize, pages: usize) -> Option<(usize, usize)> {
        let mut at = first;
        while at < first + pages {
            let (chunk, end) = (at / CHUNK_PAGES, (at / CHUNK_PAGES + 1) * CHUNK_PAGES);
            let released = &self.chunks.entries()[chunk].released;
            if let Some(page) = released.next_used(at % CHUNK_PAGES) {
                let run = (page..CHUNK_PAGES).take_while(|&page| released.is_used(page)).count();
                let start = chunk * CHUNK_PAGES + page;
                return (start < first + pages).then(|| (start, run.min(first + pages - start)));
            }
            at = end;
        }
        None
    }

    /// Whether none of these pages has memory. For who took them.
    pub(crate) fn is_released(&self, first: usize, pages: usize) -> bool {
        let (mut at, end) = (first, first + pages);
        while at < end {
            match self.next_released(at, end - at) {
                Some((start, run)) if start == at => at += run,
                _ => return false,
            }
        }
        true
    }

    /// Notes of a run in one chunk whether it has no memory. For who took it.
    pub(crate) fn set_released(&mut self, first: usize, pages: usize, released: bool) {
        let bits = &mut self.chunks.entries_mut()[first / CHUNK_PAGES].released;
        match released {
            true => bits.take(first % CHUNK_PAGES, pages),
            false => bits.give_back(first % CHUNK_PAGES, pages),
        }
    }

    /// Takes the highest run of free pages below page `end`, in one chunk, that have memory. The highest, because the lowest are taken again
    /// first. O(chunks passed over).
    pub(crate) fn take_releasable(&mut self, end: usize) -> Option<Run> {
        let end = end.min(self.end());
        let (number, (first, pages)) = (0..end.div_ceil(CHUNK_PAGES)).rev().find_map(|number| {
            let end = (end - number * CHUNK_PAGES).min(CHUNK_PAGES);
            Some((number, self.chunks.entries()[number].last_releasable(end)?))
        })?;
        self.chunks.entries_mut()[number].used.take(first, pages);
        self.note_change(number, number);
        Some(Run { first: number * CHUNK_PAGES + first, pages, with_memory: pages })
    }

    /// Gives pages back that were taken to be released, and have been.
    pub(crate) fn give_back_released(&mut self, run: Run) {
        self.set_released(run.first, run.pages, true);
        self.give_back(run.first, run.pages);
    }

    /// The lowest free page.
    pub(crate) fn lowest_free(&mut self) -> Option<usize> {
        self.find(self.hint, 1)
    }

    /// How many chunks to add at the end so that `take` with these arguments, which found nothing, succeeds.
    pub(crate) fn missing_chunks(&self, pages: usize, align: usize) -> usize {
        let mut free = 0;
        for chunk in self.chunks.entries().iter().rev() {
            free += chunk.used.trailing_free();
            if chunk.used != PageBits::FREE {
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

    pub(crate) fn released(&self) -> usize {
        self.chunks.entries().iter().map(|chunk| chunk.released.used()).sum()
    }

    pub(crate) fn used(&self) -> usize {
        self.chunks.entries().iter().map(|chunk| chunk.used.used()).sum()
    }

    pub(crate) fn is_used(&self, page: usize) -> bool {
        self.chunks.entries().get(page / CHUNK_PAGES).is_some_and(|chunk| chunk.used.is_used(page % CHUNK_PAGES))
    }

    pub(crate) fn check_tables(&self) -> bool {
        self.stale.is_none()
            && self.chunks.check()
            && self.chunks.entries().iter().all(Chunk::check)
            && self.tree.check(self.chunks.entries().len(), |chunk| self.summary(chunk))
    }

    pub(crate) fn check_hint(&self) -> bool {
        let page = |(number, chunk): (usize, &Chunk)| chunk.used.find(0, 1).map(|page| number * CHUNK_PAGES + page);
        self.chunks.entries().iter().enumerate().find_map(page).is_none_or(|lowest| self.hint <= lowest)
    }

    /// The first of the lowest run at or after `from`.
    fn find(&mut self, from: usize, pages: usize) -> Option<usize> {
        let (chunk, within) = (from / CHUNK_PAGES, from % CHUNK_PAGES);
        let bits = &self.chunks.entries().get(chunk)?.used;
        if let Some(page) = bits.find(within, pages) {
            return Some(chunk * CHUNK_PAGES + page);
        }
        let run = bits.trailing_free().min(CHUNK_PAGES - within);
        self.summarize();
        match self.tree.find(chunk + 1, run, pages)? {
            Place::Page(first) => Some(first),
            Place::Chunk(chunk) => {
                let page = self.chunks.entries()[chunk].used.find(0, pages).expect("a chunk has what its summary says");
                Some(chunk * CHUNK_PAGES + page)
            }
        }
    }

    fn for_each_chunk(&mut self, first: usize, pages: usize, change: fn(&mut PageBits, usize, usize)) {
        let end = first + pages;
        let mut at = first;
        while at < end {
            let chunk = at / CHUNK_PAGES;
            let stop = end.min((chunk + 1) * CHUNK_PAGES);
            change(&mut self.chunks.entries_mut()[chunk].used, at % CHUNK_PAGES, stop - at);
            at = stop;
        }
        self.note_change(first / CHUNK_PAGES, (end - 1) / CHUNK_PAGES);
    }

    /// The summaries of these chunks are to be made again.
    fn note_change(&mut self, mut first: usize, mut last: usize) {
        if let Some((lowest, highest)) = self.stale {
            if lowest <= first && last <= highest {
                return;
            }
            if first.abs_diff(lowest) < NEAR && last.abs_diff(highest) < NEAR {
                (first, last) = (first.min(lowest), last.max(highest));
            } else {
                self.summarize();
            }
        }
        self.stale = Some((first, last));
    }

    fn update(&mut self, first: usize, last: usize) {
        let chunks = self.chunks.entries();
        self.tree.update(first, last, |chunk| chunks[chunk].used.summary());
    }

    fn summary(&self, chunk: usize) -> Summary {
        self.chunks.entries().get(chunk).map_or(Summary::NONE, |chunk| chunk.used.summary())
    }
}

#[cfg(test)]
impl PageAllocator {
    /// For corruption.rs: the first chunk's bits, the hint, how many chunks there are.
    pub(super) fn places(&self) -> (*const u64, *const usize, *const usize) {
        (self.chunks.entries().as_ptr().cast(), &raw const self.hint, self.chunks.length_place())
    }

    /// For corruption.rs: the first summary of each level, and how many leaves there are.
    pub(super) fn summary_places(&self) -> ([*const u64; 5], *const usize) {
        self.tree.places()
    }
}
