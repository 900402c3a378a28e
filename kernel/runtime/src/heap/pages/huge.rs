//! Huge pages: 2 MiB that the platform can map by one entry, as long as all of it has memory. Go leaves that to Linux.
//!
//! A huge page is 256 pages, half a chunk. Whose pages are all free can give their memory back together, and get it
//! again together; one with a page in use would have to be split for that. What is mapped by small pages gets and gives
//! its memory by as much: a call for all of it.

use super::bits::{Chunk, PageBits};
use super::{CHUNK_PAGES, PageAllocator, Run};
use core::ops::Range;

pub(crate) const HUGE_PAGES: usize = CHUNK_PAGES / 2;
const WORDS: usize = HUGE_PAGES / 64;

impl PageBits {
    fn count_in_huge(&self, first: usize) -> usize {
        let words = first % CHUNK_PAGES / 64..;
        self.words()[words].iter().take(WORDS).map(|word| word.count_ones() as usize).sum()
    }
}

impl Chunk {
    /// Whether it is all free, and some of it has memory.
    fn is_releasable(&self, first: usize) -> bool {
        self.used.count_in_huge(first) == 0 && self.released.count_in_huge(first) < HUGE_PAGES
    }
}

impl PageAllocator {
    /// The huge page with this page, if some of it has no memory, and nobody has any of it but who has `taken` these pages: its first, and
    /// how many have memory.
    pub(crate) fn whole_huge(&self, page: usize, taken: Range<usize>) -> Option<(usize, usize)> {
        let first = page - page % HUGE_PAGES;
        let chunk = self.chunks.entries().get(first / CHUNK_PAGES)?;
        let own = taken.end.min(first + HUGE_PAGES).saturating_sub(taken.start.max(first));
        let released = chunk.released.count_in_huge(first);
        (released > 0 && chunk.used.count_in_huge(first) == own).then_some((first, HUGE_PAGES - released))
    }

    /// Takes the highest huge page below page `end` that is free and has memory. O(chunks passed over).
    pub(crate) fn take_releasable_huge(&mut self, end: usize) -> Option<Run> {
        let last = end.min(self.end()) / HUGE_PAGES;
        let chunks = self.chunks.entries();
        let (place, chunk) = (0..last)
            .rev()
            .map(|place| (place, &chunks[place * HUGE_PAGES / CHUNK_PAGES]))
            .find(|(place, chunk)| chunk.is_releasable(place * HUGE_PAGES))?;
        let first = place * HUGE_PAGES;
        let with_memory = HUGE_PAGES - chunk.released.count_in_huge(first);
        self.set_huge_released(first, false);
        self.chunks.entries_mut()[first / CHUNK_PAGES].used.take(first % CHUNK_PAGES, HUGE_PAGES);
        self.note_change(first / CHUNK_PAGES, first / CHUNK_PAGES);
        Some(Run { first, pages: HUGE_PAGES, with_memory, mapping: self.mapping(first) })
    }

    /// Notes of all of a huge page whether it has no memory, whatever was noted before.
    pub(crate) fn set_huge_released(&mut self, first: usize, released: bool) {
        let word = first % CHUNK_PAGES / 64;
        let bits = &mut self.chunks.entries_mut()[first / CHUNK_PAGES].released;
        bits.words_mut()[word..word + WORDS].fill(if released { u64::MAX } else { 0 });
    }
}
