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
}

impl PageCache {
    pub(crate) const EMPTY: PageCache = PageCache { first: 0, free: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.free == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.free.count_ones() as usize
    }

    /// Takes the lowest run of so many (1 to 64) pages, and returns its first. Some ten instructions for one page, 25 for 16.
    pub(crate) fn take(&mut self, pages: usize) -> Option<usize> {
        let fits = runs(self.free, pages);
        if fits == 0 {
            return None;
        }
        let at = fits.trailing_zeros();
        self.free &= !(u64::MAX >> (64 - pages) << at);
        Some(self.first + at as usize)
    }

    /// The pages in it. What it says is not believed: for the verifier.
    pub(crate) fn pages(&self) -> impl Iterator<Item = usize> {
        let (first, free) = (self.first, self.free);
        (0..CACHE_PAGES).filter(move |bit| free >> bit & 1 != 0).map(move |bit| first.wrapping_add(bit))
    }

    pub(crate) fn is_aligned(&self) -> bool {
        self.first.is_multiple_of(CACHE_PAGES)
    }

    /// Whether no page is in both, if both are aligned.
    pub(crate) fn is_apart_from(&self, other: &PageCache) -> bool {
        self.first != other.first || self.free & other.free == 0
    }
}

#[cfg(test)]
impl PageCache {
    /// For corruption.rs.
    pub(crate) fn places(&self) -> (*const usize, *const u64) {
        (&raw const self.first, &raw const self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut cache = PageCache { first: 640, free: 0b1111_0110_0001 };
        assert_eq!((cache.take(3), cache.take(2), cache.take(2)), (Some(648), Some(645), None));
        assert_eq!((cache.take(1), cache.take(1), cache.take(1)), (Some(640), Some(651), None));
        assert!(cache.is_empty());
        let mut cache = PageCache { first: 0, free: u64::MAX };
        assert_eq!((cache.take(64), cache.take(1)), (Some(0), None));
    }
}
