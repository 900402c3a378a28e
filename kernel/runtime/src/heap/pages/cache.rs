//! PageCache: up to 64 neighbouring pages that one CPU has, to make spans of without a lock. Go: mpagecache.go.

use super::bits::runs;

/// Pages that a cache can hold.
pub(crate) const CACHE_PAGES: usize = 64;

#[derive(Debug)]
pub(crate) struct PageCache {
    /// A multiple of 64.
    pub(super) first: usize,
    /// Bit n: page `first + n` is here.
    pub(super) free: u64,
    /// Of those, the ones that have no memory.
    pub(super) released: u64,
}

/// Pages taken from a cache.
pub(crate) struct Taken {
    pub(crate) first: usize,
    /// The runs without memory: bit n is page `block + n`.
    pub(crate) released: u64,
    pub(crate) block: usize,
    mask: u64,
}

impl Taken {
    /// Whether none of them has memory.
    pub(crate) fn is_released(&self) -> bool {
        self.released == self.mask
    }
}

impl PageCache {
    pub(crate) const EMPTY: PageCache = PageCache { first: 0, free: 0, released: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.free == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.free.count_ones() as usize
    }

    /// The page after its last place.
    pub(crate) fn end(&self) -> usize {
        self.first + CACHE_PAGES
    }

    /// Takes the lowest run of so many (1 to 64) pages. Some ten instructions for one page, 25 for 15.
    pub(crate) fn take(&mut self, pages: usize) -> Option<Taken> {
        let fits = runs(self.free, pages);
        if fits == 0 {
            return None;
        }
        let at = fits.trailing_zeros();
        let mask = u64::MAX >> (64 - pages) << at;
        let released = self.released & mask;
        (self.free, self.released) = (self.free & !mask, self.released & !mask);
        Some(Taken { first: self.first + at as usize, released, block: self.first, mask })
    }

    /// Takes back what was just taken, for want of memory for it.
    pub(crate) fn put_back(&mut self, taken: Taken) {
        (self.free, self.released) = (self.free | taken.mask, self.released | taken.released);
    }

    /// The pages in it. What it says is not believed: for the verifier.
    pub(crate) fn pages(&self) -> impl Iterator<Item = usize> {
        let (first, free) = (self.first, self.free);
        (0..CACHE_PAGES).filter(move |bit| free >> bit & 1 != 0).map(move |bit| first.wrapping_add(bit))
    }

    pub(crate) fn released(&self) -> usize {
        self.released.count_ones() as usize
    }

    /// Whether its pages are one word of the bitmap's, and only pages that it has have no memory.
    pub(crate) fn check(&self) -> bool {
        self.first.is_multiple_of(CACHE_PAGES) && self.released & !self.free == 0
    }

    /// Whether no page is in both, if both are aligned.
    pub(crate) fn is_apart_from(&self, other: &PageCache) -> bool {
        self.first != other.first || self.free & other.free == 0
    }
}

#[cfg(test)]
impl PageCache {
    /// For corruption.rs.
    pub(crate) fn places(&self) -> (*const usize, *const u64, *const u64) {
        (&raw const self.first, &raw const self.free, &raw const self.released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(taken: Option<Taken>) -> Option<usize> {
        taken.map(|taken| taken.first)
    }

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut cache = PageCache { first: 640, free: 0b1111_0110_0001, released: 0 };
        let mut take = |pages| first(cache.take(pages));
        assert_eq!((take(3), take(2), take(2)), (Some(648), Some(645), None));
        assert_eq!((take(1), take(1), take(1)), (Some(640), Some(651), None));
        assert!(cache.is_empty());
        let mut cache = PageCache { first: 0, free: u64::MAX, released: 0 };
        assert_eq!((first(cache.take(64)), first(cache.take(1))), (Some(0), None));
    }

    #[test]
    fn what_has_no_memory_is_said_and_can_be_put_back() {
        let mut cache = PageCache { first: 64, free: 0b1111_0110, released: 0b1010_0010 };
        let mut taken = cache.take(3).expect("bits 4 to 6");
        assert_eq!((taken.first, taken.released, taken.block), (68, 0b10_0000, 64));
        assert!(!taken.is_released());
        assert_eq!((cache.free, cache.released), (0b1000_0110, 0b1000_0010));
        taken.released = 0;
        cache.put_back(taken);
        assert_eq!((cache.free, cache.released), (0b1111_0110, 0b1000_0010));
        assert!(cache.take(1).is_some_and(|taken| taken.is_released()));
    }
}
