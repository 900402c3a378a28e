//! PageBits: which of a chunk's 512 pages are in use, a bit each. Go: mpallocbits.go.

/// Pages in a chunk: 4 MiB, the unit in which the heap takes memory from the platform.
pub(crate) const CHUNK_PAGES: usize = 512;

/// A set bit is a page in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageBits([u64; CHUNK_PAGES / 64]);

impl PageBits {
    pub(crate) const FREE: PageBits = PageBits([0; CHUNK_PAGES / 64]);

    /// The first free page at or after `from`, or [`CHUNK_PAGES`].
    pub(crate) fn next_free(&self, from: usize) -> usize {
        self.next(from, u64::MAX)
    }

    /// The first page in use at or after `from`, or [`CHUNK_PAGES`].
    pub(crate) fn next_used(&self, from: usize) -> usize {
        self.next(from, 0)
    }

    /// The first bit at or after `from` that differs from those of `flip`.
    fn next(&self, from: usize, flip: u64) -> usize {
        let mut wanted = !0 << (from % 64);
        for (index, word) in self.0.iter().enumerate().skip(from / 64) {
            let found = (word ^ flip) & wanted;
            if found != 0 {
                return index * 64 + found.trailing_zeros() as usize;
            }
            wanted = !0;
        }
        CHUNK_PAGES
    }

    /// How many pages at the chunk's end are free.
    pub(crate) fn trailing_free(&self) -> usize {
        let mut free = 0;
        for word in self.0.iter().rev() {
            free += word.leading_zeros() as usize;
            if *word != 0 {
                break;
            }
        }
        free
    }

    pub(crate) fn used(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.iter().all(|&word| word == u64::MAX)
    }

    /// Marks free pages as used.
    pub(crate) fn take(&mut self, first: usize, pages: usize) {
        self.for_each_word(first, pages, |word, mask| {
            assert!(*word & mask == 0, "only free pages are taken");
            *word |= mask;
        });
    }

    /// Marks used pages as free.
    pub(crate) fn give_back(&mut self, first: usize, pages: usize) {
        self.for_each_word(first, pages, |word, mask| {
            assert!(*word & mask == mask, "only used pages are given back");
            *word &= !mask;
        });
    }

    fn for_each_word(&mut self, first: usize, pages: usize, change: impl Fn(&mut u64, u64)) {
        let end = first + pages;
        let mut at = first;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            let mask = !0 >> (64 - (stop - at)) << (at % 64);
            change(&mut self.0[at / 64], mask);
            at = stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first page at or after `from` whose use is `used`.
    fn scan(bits: &[bool; CHUNK_PAGES], from: usize, used: bool) -> usize {
        (from..CHUNK_PAGES).find(|&page| bits[page] == used).unwrap_or(CHUNK_PAGES)
    }

    #[test]
    fn ranges_over_word_boundaries_agree_with_one_flag_per_page() {
        for (first, pages) in [(0, 1), (63, 1), (63, 2), (64, 64), (1, 511), (0, 512), (100, 300), (511, 1), (5, 0)] {
            let mut bits = PageBits::FREE;
            let mut naive = [false; CHUNK_PAGES];
            bits.take(first, pages);
            naive[first..first + pages].fill(true);
            for from in 0..=CHUNK_PAGES {
                assert_eq!(bits.next_free(from), scan(&naive, from, false), "{first} {pages}");
                assert_eq!(bits.next_used(from), scan(&naive, from, true), "{first} {pages}");
            }
            assert_eq!((bits.used(), bits.is_full()), (pages, pages == CHUNK_PAGES));
            assert_eq!(bits.trailing_free(), naive.iter().rev().take_while(|used| !**used).count());
            bits.give_back(first, pages);
            assert_eq!(bits, PageBits::FREE);
        }
    }

    #[test]
    #[should_panic(expected = "only free pages are taken")]
    fn a_page_is_taken_once() {
        let mut bits = PageBits::FREE;
        bits.take(10, 2);
        bits.take(11, 1);
    }
}
