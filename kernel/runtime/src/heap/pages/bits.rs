//! PageBits: one bit for each of a chunk's 512 pages. Chunk: which are in use, and which have no memory. Go: mpallocbits.go.

use super::Mapping;
use super::summary::Summary;

/// Pages in a chunk: 4 MiB, the unit in which the heap grows.
pub(crate) const CHUNK_PAGES: usize = 512;

/// What is known of 512 pages. 136 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) used: PageBits,
    /// Pages that have no memory, free or just taken. Go: `scavenged`.
    pub(super) released: PageBits,
    pub(super) mapping: Mapping,
}

impl Chunk {
    pub(super) const ABSENT: Chunk = Chunk { used: PageBits::USED, released: PageBits::FREE, mapping: Mapping::Huge };

    /// Which pages are in use for whom wants some that are mapped so: in a chunk that is mapped otherwise, all.
    pub(super) fn bits(&self, mapping: Mapping) -> &PageBits {
        if self.mapping == mapping { &self.used } else { &PageBits::USED }
    }

    /// The highest run below `end` of free pages that have memory: its first and how many they are.
    pub(super) fn last_releasable(&self, end: usize) -> Option<(usize, usize)> {
        let mut kept = self.used;
        kept.0.iter_mut().zip(self.released.0).for_each(|(kept, released)| *kept |= released);
        let last = kept.previous(end, u64::MAX)?;
        let first = kept.previous(last, 0).map_or(0, |used| used + 1);
        Some((first, last + 1 - first))
    }

    /// How many pages are free and have memory.
    pub(super) fn free_with_memory(&self) -> usize {
        self.used.0.iter().zip(self.released.0).map(|(used, released)| (used | released).count_zeros() as usize).sum()
    }
}

/// A set bit is a page in use, or one that has been released. 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageBits([u64; CHUNK_PAGES / 64]);

impl PageBits {
    pub(super) const FREE: PageBits = PageBits([0; CHUNK_PAGES / 64]);
    pub(super) const USED: PageBits = PageBits([u64::MAX; CHUNK_PAGES / 64]);

    /// The first of the lowest run of `pages` free pages at or after `from`. Some 30 instructions a word.
    pub(super) fn find(&self, from: usize, pages: usize) -> Option<usize> {
        // The free pages just before the word.
        let mut run = 0;
        let mut wanted = u64::MAX << (from % 64);
        for (index, word) in self.0.iter().enumerate().skip(from / 64) {
            let free = !word & wanted;
            wanted = u64::MAX;
            if run + free.trailing_ones() as usize >= pages {
                return Some(index * 64 - run);
            }
            if free == u64::MAX {
                run += 64;
                continue;
            }
            if pages < 64 {
                let fits = runs(free, pages);
                if fits != 0 {
                    return Some(index * 64 + fits.trailing_zeros() as usize);
                }
            }
            run = free.leading_ones() as usize;
        }
        None
    }

    /// The free pages at the chunk's start and end, and the longest run of them anywhere. 100 to 300 instructions.
    pub(super) fn summary(&self) -> Summary {
        let (mut start, mut longest, mut run) = (None, 0, 0);
        for &word in &self.0 {
            if word == 0 {
                run += 64;
                continue;
            }
            run += word.trailing_zeros() as usize;
            start = start.or(Some(run));
            longest = longest.max(run);
            run = word.leading_zeros() as usize;
            longest = longest.max(run);
            // Runs within the word count only if they are longer than that.
            let mut longer = if longest < 64 { runs(!word, longest + 1) } else { 0 };
            while longer != 0 {
                longest += 1;
                longer &= longer >> 1;
            }
        }
        Summary::new(start.unwrap_or(run), longest.max(run), run)
    }

    /// The lowest page at or after `from` that is in use.
    pub(super) fn next_used(&self, from: usize) -> Option<usize> {
        self.next(from, 0)
    }

    /// The lowest page at or after `from` that is not.
    pub(super) fn next_free(&self, from: usize) -> Option<usize> {
        self.next(from, u64::MAX)
    }

    /// The lowest page at or after `from` whose bit differs from those of `flip`.
    fn next(&self, from: usize, flip: u64) -> Option<usize> {
        let (word, wanted) = (from / 64, u64::MAX << (from % 64));
        let index = match (self.0.get(word)? ^ flip) & wanted {
            0 => word + 1 + self.0[word + 1..].iter().position(|&bits| bits != flip)?,
            found => return Some(word * 64 + found.trailing_zeros() as usize),
        };
        Some(index * 64 + (self.0[index] ^ flip).trailing_zeros() as usize)
    }

    pub(super) fn words(&self) -> &[u64; CHUNK_PAGES / 64] {
        &self.0
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64; CHUNK_PAGES / 64] {
        &mut self.0
    }

    /// The highest page below `end` whose bit differs from those of `flip`.
    fn previous(&self, end: usize, flip: u64) -> Option<usize> {
        for index in (0..end.div_ceil(64)).rev() {
            let wanted = u64::MAX >> (64 - (end - index * 64).min(64));
            let found = (self.0[index] ^ flip) & wanted;
            if found != 0 {
                return Some(index * 64 + 63 - found.leading_zeros() as usize);
            }
        }
        None
    }

    /// How many pages at the chunk's end are free.
    pub(super) fn trailing_free(&self) -> usize {
        let whole = self.0.iter().rev().take_while(|&&word| word == 0).count();
        let next = self.0.iter().rev().nth(whole).map_or(0, |word| word.leading_zeros());
        64 * whole + next as usize
    }

    pub(super) fn used(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn is_used(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 != 0
    }

    /// Marks free pages as used.
    pub(super) fn take(&mut self, first: usize, pages: usize) {
        self.for_each_word(first, pages, PageBits::take_mask);
    }

    /// Marks used pages as free.
    pub(super) fn give_back(&mut self, first: usize, pages: usize) {
        self.for_each_word(first, pages, PageBits::give_back_mask);
    }

    /// The 64 pages with this one.
    pub(super) fn block(&self, page: usize) -> u64 {
        self.0[page / 64]
    }

    /// Marks those pages of the word as used which `mask` names, all of them free.
    pub(super) fn take_mask(&mut self, word: usize, mask: u64) {
        assert!(self.0[word] & mask == 0, "only free pages are taken");
        self.0[word] |= mask;
    }

    /// Marks those pages of the word as free which `mask` names, all of them used.
    pub(super) fn give_back_mask(&mut self, word: usize, mask: u64) {
        assert!(self.0[word] & mask == mask, "only used pages are given back");
        self.0[word] &= !mask;
    }

    #[inline(always)]
    fn for_each_word(&mut self, first: usize, pages: usize, change: impl Fn(&mut PageBits, usize, u64)) {
        // A chunk that is taken whole is one of many, in a large object.
        if pages == CHUNK_PAGES {
            return (0..CHUNK_PAGES / 64).for_each(|word| change(self, word, u64::MAX));
        }
        let end = first + pages;
        let mut at = first;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            change(self, at / 64, u64::MAX >> (64 - (stop - at)) << (at % 64));
            at = stop;
        }
    }
}

/// Which set bits begin a run of `length` (1 to 64) set bits. Some three instructions for each bit of `length`.
pub(super) fn runs(bits: u64, length: usize) -> u64 {
    let (mut begins, mut sure) = (bits, 1);
    while sure < length {
        // A set bit vouches for `sure` set ones; two that are no further apart vouch for both stretches.
        let more = sure.min(length - sure);
        begins &= begins >> more;
        sure += more;
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Random;

    /// The lowest run, found by trying every place.
    fn first_fit(used: &[bool], from: usize, pages: usize) -> Option<usize> {
        (from..used.len()).find(|&at| used.get(at..at + pages).is_some_and(|run| run.iter().all(|used| !used)))
    }

    fn check(bits: &PageBits, naive: &[bool; CHUNK_PAGES], random: &mut Random) {
        let free_runs = || naive.split(|used| *used).map(<[bool]>::len);
        let (start, longest, end) = (free_runs().next(), free_runs().max(), free_runs().next_back());
        let expected = Summary::new(start.unwrap_or(0), longest.unwrap_or(0), end.unwrap_or(0));
        assert_eq!(bits.summary(), expected);
        assert_eq!((bits.trailing_free(), bits.used()), (expected.end(), naive.iter().filter(|used| **used).count()));
        for pages in [1, 2, 63, 64, 65, longest.unwrap_or(0), random.below(20) + 1, random.below(CHUNK_PAGES) + 1] {
            for from in [0, random.below(CHUNK_PAGES)] {
                let pages = pages.max(1);
                assert_eq!(bits.find(from, pages), first_fit(naive, from, pages), "{pages} pages from {from}");
            }
        }
        let page = random.below(CHUNK_PAGES);
        assert_eq!(bits.is_used(page), naive[page]);
        assert_eq!(bits.next_used(page), (page..CHUNK_PAGES).find(|&page| naive[page]));
        assert_eq!(bits.next_free(page), (page..CHUNK_PAGES).find(|&page| !naive[page]));
        let chunk = Chunk { used: *bits, ..Chunk::ABSENT };
        let last = (0..page).rfind(|&page| !naive[page]);
        let first = |last| (0..last).rfind(|&page| naive[page]).map_or(0, |used| used + 1);
        assert_eq!(chunk.last_releasable(page), last.map(|last| (first(last), last + 1 - first(last))));
    }

    #[test]
    fn ranges_over_word_boundaries_agree_with_one_flag_per_page() {
        let mut random = Random::new();
        for (first, pages) in [(0, 1), (63, 1), (63, 2), (64, 64), (1, 511), (0, 512), (100, 300), (511, 1), (5, 0)] {
            let mut bits = PageBits::FREE;
            let mut naive = [false; CHUNK_PAGES];
            bits.take(first, pages);
            naive[first..first + pages].fill(true);
            check(&bits, &naive, &mut random);
            bits.give_back(first, pages);
            assert_eq!(bits, PageBits::FREE);
        }
    }

    #[test]
    fn any_trace_agrees_with_one_flag_per_page() {
        let mut random = Random::new();
        let (mut bits, mut naive) = (PageBits::FREE, [false; CHUNK_PAGES]);
        for step in 0..if cfg!(miri) { 5 } else { 3000 } {
            // Now nearly empty, now nearly full, with short runs and with long ones.
            let longest = [3, 70, 300][step / 100 % 3];
            let first = random.below(CHUNK_PAGES);
            let same = naive[first..].iter().take_while(|used| **used == naive[first]).count();
            let pages = same.min(1 + random.below(longest));
            let takes = random.below(4) < 1 + step / 300 % 3;
            if naive[first] != takes {
                if takes {
                    bits.take(first, pages)
                } else {
                    bits.give_back(first, pages)
                }
                naive[first..first + pages].fill(takes);
            }
            check(&bits, &naive, &mut random);
        }
    }

    #[test]
    fn a_block_is_taken_whole_and_given_back_as_it_was() {
        let mut bits = PageBits::FREE;
        bits.take(130, 3);
        let before = bits;
        assert_eq!(bits.block(190), 0b11100);
        bits.take_mask(2, !0b11100);
        assert_eq!((bits.block(128), bits.used()), (u64::MAX, 64));
        bits.give_back_mask(2, !0b11100);
        assert_eq!(bits, before);
    }

    #[test]
    fn what_has_no_memory_is_not_released_again() {
        let mut chunk = Chunk { used: PageBits::FREE, ..Chunk::ABSENT };
        assert_eq!((chunk.last_releasable(CHUNK_PAGES), chunk.last_releasable(0)), (Some((0, CHUNK_PAGES)), None));
        chunk.used.take(100, 100);
        chunk.released.take(300, CHUNK_PAGES - 300);
        assert_eq!(chunk.last_releasable(CHUNK_PAGES), Some((200, 100)));
        assert_eq!(chunk.last_releasable(200), Some((0, 100)));
        assert_eq!(chunk.free_with_memory(), 200);
        chunk.used.take(511, 1);
        assert_eq!(chunk.free_with_memory(), 200);
    }

    #[test]
    fn runs_begin_where_so_many_bits_are_set() {
        assert_eq!(runs(0b0111_0110, 1), 0b0111_0110);
        assert_eq!(runs(0b0111_0110, 2), 0b0011_0010);
        assert_eq!(runs(0b0111_0110, 3), 0b0001_0000);
        assert_eq!((runs(u64::MAX, 64), runs(u64::MAX >> 1, 64)), (1, 0));
    }

    #[test]
    #[should_panic(expected = "only free pages are taken")]
    fn a_page_is_taken_once() {
        let mut bits = PageBits::FREE;
        bits.take(10, 2);
        bits.take(11, 1);
    }

    #[test]
    #[should_panic(expected = "only used pages are given back")]
    fn a_page_is_given_back_once() {
        let mut bits = PageBits::FREE;
        bits.take(10, 2);
        bits.give_back(10, 3);
    }
}
