//! Summary: what the search for free pages needs to know of a stretch of addresses. Go: pallocSum in mpagealloc.go.

use super::bits::CHUNK_PAGES;
use core::fmt;

/// Summaries that are children of one: 64 bytes of them, a cache line.
pub(super) const CHILDREN: usize = 8;

/// Each of the three numbers has 21 bits, and only for the whole 2²¹ pages of a root's stretch it takes 22: that is bit 63.
const BITS: u32 = 21;
pub(super) const MOST_PAGES: usize = 1 << BITS;
const MASK: u64 = (1 << BITS) - 1;
const ALL: u64 = 1 << 63;

const _: () = assert!(CHUNK_PAGES * CHILDREN.pow(4) == MOST_PAGES, "a root of four levels over chunks");

/// Free pages at a stretch's start, in the longest run within, and at its end. 64 bits: end, longest, start from bit 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary(u64);

impl Summary {
    /// Nothing is free.
    pub(super) const NONE: Summary = Summary(0);

    pub(super) const fn new(start: usize, longest: usize, end: usize) -> Summary {
        if start == MOST_PAGES {
            return Summary(ALL);
        }
        Summary(start as u64 | (longest as u64) << BITS | (end as u64) << (2 * BITS))
    }

    pub(super) const fn start(self) -> usize {
        self.field(0)
    }

    pub(super) const fn longest(self) -> usize {
        self.field(1)
    }

    pub(super) const fn end(self) -> usize {
        self.field(2)
    }

    const fn field(self, index: u32) -> usize {
        if self.0 & ALL != 0 { MOST_PAGES } else { (self.0 >> (index * BITS) & MASK) as usize }
    }

    /// Of neighbouring stretches of `pages` each.
    pub(super) fn of(children: &[Summary; CHILDREN], pages: usize) -> Summary {
        let (mut start, mut longest, mut run) = (None, 0, 0);
        for child in children {
            // No child is as long as a root.
            let field = |index| (child.0 >> (index * BITS) & MASK) as usize;
            let (first, inside, last) = (field(0), field(1), field(2));
            run += first;
            if first == pages {
                continue;
            }
            start = start.or(Some(run));
            longest = longest.max(run).max(inside);
            run = last;
        }
        Summary::new(start.unwrap_or(run), longest.max(run), run)
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}..{}", self.start(), self.longest(), self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_up_to_two_to_the_twenty_first_fit() {
        for (start, longest, end) in [(0, 0, 0), (1, 2, 3), (MOST_PAGES - 1, MOST_PAGES - 1, 0), (0, 7, MOST_PAGES - 1)]
        {
            let summary = Summary::new(start, longest, end);
            assert_eq!((summary.start(), summary.longest(), summary.end()), (start, longest, end));
        }
        let all = Summary::new(MOST_PAGES, MOST_PAGES, MOST_PAGES);
        assert_eq!((all.start(), all.longest(), all.end()), (MOST_PAGES, MOST_PAGES, MOST_PAGES));
    }

    #[test]
    fn runs_go_on_from_child_to_child() {
        let (none, all) = (Summary::NONE, Summary::new(512, 512, 512));
        let of = |children| Summary::of(&children, 512);
        assert_eq!(of([none; 8]), none);
        assert_eq!(of([all; 8]), Summary::new(4096, 4096, 4096));
        assert_eq!(of([all, none, none, none, none, none, none, all]), Summary::new(512, 512, 512));
        let (left, right) = (Summary::new(9, 20, 100), Summary::new(50, 60, 7));
        assert_eq!(of([left, right, none, none, none, none, none, none]), Summary::new(9, 150, 0));
        assert_eq!(of([left, all, all, right, none, none, none, none]), Summary::new(9, 1174, 0));
        assert_eq!(of([all, right, none, none, none, none, left, all]), Summary::new(562, 612, 612));
        assert_eq!(of([none, none, right, none, none, none, none, none]), Summary::new(0, 60, 0));
        let quarter = Summary::new(MOST_PAGES / 8, MOST_PAGES / 8, MOST_PAGES / 8);
        assert_eq!(Summary::of(&[quarter; 8], MOST_PAGES / 8).start(), MOST_PAGES);
    }
}
