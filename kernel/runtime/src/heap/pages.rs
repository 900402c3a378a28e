//! PageAllocator: finds runs of free pages by first fit over the chunks' bitmaps. Go: mpagealloc.go, where a radix
//! tree of summaries (free pages at a chunk's start, end, and at most in between) finds the chunk; here the chunks
//! are walked from the lowest that is not full.

use super::page_bits::{CHUNK_PAGES, PageBits};
use super::table::Table;
use crate::addr::Bytes;
use crate::platform::{OutOfFrames, Platform};

/// Pages are numbered from the start of the heap's addresses, over all chunks.
pub(crate) struct PageAllocator {
    chunks: Table<PageBits>,
    /// Every chunk below is full.
    lowest: usize,
}

impl PageAllocator {
    pub(crate) const fn new() -> PageAllocator {
        PageAllocator { chunks: Table::new(), lowest: 0 }
    }

    pub(crate) fn reserve(&mut self, platform: &dyn Platform, chunks: usize) -> bool {
        self.chunks.reserve(platform, chunks)
    }

    /// The memory of the bitmaps.
    pub(crate) fn records(&self) -> Bytes {
        self.chunks.committed()
    }

    pub(crate) fn make_room(&mut self, platform: &dyn Platform, chunks: usize) -> Result<(), OutOfFrames> {
        self.chunks.make_room(platform, chunks)
    }

    /// Adds chunks of free pages at the end; there is room for them.
    pub(crate) fn add(&mut self, chunks: usize) {
        for _ in 0..chunks {
            self.chunks.push(PageBits::FREE);
        }
    }

    /// Takes the lowest run of `pages` (at least one) free pages whose number is a multiple of `align`, and returns
    /// its first.
    pub(crate) fn take(&mut self, pages: usize, align: usize) -> Option<usize> {
        let mut from = self.lowest * CHUNK_PAGES;
        loop {
            let first = self.next_free(from)?.next_multiple_of(align);
            let end = first + pages;
            if end > self.end() {
                return None;
            }
            match self.next_used(first, end) {
                None => {
                    self.for_each_chunk(first, pages, PageBits::take);
                    let chunks = self.chunks.entries();
                    self.lowest += chunks[self.lowest..].iter().take_while(|chunk| chunk.is_full()).count();
                    return Some(first);
                }
                Some(used) => from = used,
            }
        }
    }

    pub(crate) fn give_back(&mut self, first: usize, pages: usize) {
        self.for_each_chunk(first, pages, PageBits::give_back);
        self.lowest = self.lowest.min(first / CHUNK_PAGES);
    }

    /// How many chunks to add so that `take` with these arguments succeeds.
    pub(crate) fn missing_chunks(&self, pages: usize, align: usize) -> usize {
        let mut free = 0;
        for chunk in self.chunks.entries().iter().rev() {
            free += chunk.trailing_free();
            if chunk.used() > 0 {
                break;
            }
        }
        let first = (self.end() - free).next_multiple_of(align);
        (first + pages - self.end()).div_ceil(CHUNK_PAGES)
    }

    /// The pages there are.
    pub(crate) fn end(&self) -> usize {
        self.chunks.entries().len() * CHUNK_PAGES
    }

    pub(crate) fn used(&self) -> usize {
        self.chunks.entries().iter().map(PageBits::used).sum()
    }

    pub(crate) fn is_used(&self, page: usize) -> bool {
        self.next_used(page, page + 1).is_some()
    }

    pub(crate) fn check_table(&self) -> bool {
        self.chunks.check()
    }

    pub(crate) fn check_lowest(&self) -> bool {
        self.chunks.entries().get(..self.lowest).is_some_and(|below| below.iter().all(PageBits::is_full))
    }

    fn next_free(&self, from: usize) -> Option<usize> {
        let mut within = from % CHUNK_PAGES;
        for (index, chunk) in self.chunks.entries().iter().enumerate().skip(from / CHUNK_PAGES) {
            let found = chunk.next_free(within);
            if found < CHUNK_PAGES {
                return Some(index * CHUNK_PAGES + found);
            }
            within = 0;
        }
        None
    }

    /// The first page in use of `from..end`.
    fn next_used(&self, from: usize, end: usize) -> Option<usize> {
        let mut within = from % CHUNK_PAGES;
        for index in from / CHUNK_PAGES..end.div_ceil(CHUNK_PAGES) {
            let found = self.chunks.entries()[index].next_used(within);
            if found < CHUNK_PAGES {
                return Some(index * CHUNK_PAGES + found).filter(|&used| used < end);
            }
            within = 0;
        }
        None
    }

    fn for_each_chunk(&mut self, first: usize, pages: usize, change: fn(&mut PageBits, usize, usize)) {
        let end = first + pages;
        let mut at = first;
        while at < end {
            let index = at / CHUNK_PAGES;
            let stop = end.min((index + 1) * CHUNK_PAGES);
            change(&mut self.chunks.entries_mut()[index], at % CHUNK_PAGES, stop - at);
            at = stop;
        }
    }
}

#[cfg(test)]
impl PageAllocator {
    /// For corruption.rs: the first chunk's bits, the lowest chunk, how many there are.
    pub(super) fn places(&mut self) -> (*const u64, *const usize, *const usize) {
        (self.chunks.entries().as_ptr().cast(), &raw const self.lowest, self.chunks.length_place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::{Pretend, Random};

    fn with_chunks(chunks: usize) -> PageAllocator {
        let platform = Pretend::new();
        let mut pages = PageAllocator::new();
        assert!(pages.reserve(platform, 64));
        pages.make_room(platform, 64).expect("memory");
        pages.add(chunks);
        pages
    }

    /// The lowest fit, found by trying every place.
    fn first_fit(used: &[bool], pages: usize, align: usize) -> Option<usize> {
        (0..used.len())
            .step_by(align)
            .find(|&at| used.get(at..at + pages).is_some_and(|run| run.iter().all(|used| !used)))
    }

    #[test]
    fn any_trace_takes_the_runs_that_trying_every_place_would_take() {
        let mut random = Random::new();
        let mut pages = with_chunks(4);
        let mut naive = vec![false; 4 * CHUNK_PAGES];
        let mut runs = Vec::new();
        for _ in 0..3000 {
            if random.below(5) < 3 || runs.is_empty() {
                let size = [1, 1, 1, 2, 10, 64, 100, 513, 700][random.below(9)];
                let align = [1, 1, 1, 1, 2, 16, 512, 1024][random.below(8)];
                let found = first_fit(&naive, size, align);
                assert_eq!(pages.take(size, align), found, "{size} pages at {align}");
                if let Some(first) = found {
                    naive[first..first + size].fill(true);
                    runs.push((first, size));
                } else if naive.len() < 10 * CHUNK_PAGES {
                    let missing = pages.missing_chunks(size, align);
                    pages.add(missing);
                    naive.resize(naive.len() + missing * CHUNK_PAGES, false);
                    assert!(first_fit(&naive, size, align).is_some(), "{missing} chunks more are enough");
                    let one_less = naive.len() - CHUNK_PAGES;
                    assert!(first_fit(&naive[..one_less], size, align).is_none(), "{missing} chunks more are needed");
                }
            } else {
                let (first, size) = runs.swap_remove(random.below(runs.len()));
                pages.give_back(first, size);
                naive[first..first + size].fill(false);
            }
            assert_eq!(pages.used(), naive.iter().filter(|used| **used).count());
        }
        for (page, &used) in naive.iter().enumerate() {
            assert_eq!(pages.is_used(page), used);
        }
    }

    #[test]
    fn a_run_may_be_longer_than_a_chunk() {
        let mut pages = with_chunks(3);
        assert_eq!(pages.take(100, 1), Some(0));
        assert_eq!(pages.take(1300, 1), Some(100));
        assert_eq!(pages.take(1300, 1), None);
        assert_eq!(pages.missing_chunks(1300, 1), 3);
        pages.give_back(0, 100);
        pages.give_back(100, 1300);
        assert_eq!(pages.take(3 * CHUNK_PAGES, 1), Some(0));
        assert_eq!(pages.take(1, 1), None);
    }

    #[test]
    fn a_heap_without_chunks_has_no_pages() {
        let mut pages = with_chunks(0);
        assert_eq!((pages.take(1, 1), pages.missing_chunks(1, 1), pages.missing_chunks(513, 1)), (None, 1, 2));
    }
}
