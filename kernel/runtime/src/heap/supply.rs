//! Supply: what one CPU has ready for new spans, without a lock: up to 64 free pages of one [`Mapping`], and a record
//! for each. Go: `pcache` and `mspancache` of p in runtime2.go.

use super::find_object::SpanMap;
use super::pages::{CACHE_PAGES, Mapping, PageCache};
use super::span::{Span, State};
use super::span_class::SpanClass;
use super::span_list::SpanList;
use crate::addr::Pages;
use crate::platform::{OutOfFrames, Platform};

/// A span of this many pages or more is made under the page heap's lock: it would leave the supply with pieces.
pub(super) const TOO_MANY: Pages = Pages(CACHE_PAGES / 4);

pub(super) struct Supply {
    /// How all its pages are mapped.
    mapping: Mapping,
    pages: PageCache,
    /// No page from here on has been used since it was committed.
    fresh: usize,
    /// At least as many as there are pages.
    records: SpanList,
    record_count: usize,
}

impl Supply {
    pub(super) const fn new(mapping: Mapping) -> Supply {
        Supply { mapping, pages: PageCache::EMPTY, fresh: 0, records: SpanList::new(), record_count: 0 }
    }

    pub(super) fn mapping(&self) -> Mapping {
        self.mapping
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// A span of so many pages, as [`PageHeap::allocate`](super::page_heap::PageHeap::allocate) gives, if there are so many together. No
    /// lock.
    ///
    /// # Errors
    /// There is no memory for pages that had been released.
    pub(super) fn take(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        class: SpanClass,
        pages: Pages,
    ) -> Result<Option<&'static Span>, OutOfFrames> {
        let Some(mut taken) = self.pages.take(pages.0) else { return Ok(None) };
        let is_zero = platform.commits_zeroes() && (taken.first >= self.fresh || taken.is_released());
        while taken.released != 0 {
            let at = taken.released.trailing_zeros() as usize;
            let run = (taken.released >> at).trailing_ones() as usize;
            if let Err(out) = map.commit_again(platform, self.mapping, taken.block + at, Pages(run)) {
                self.pages.put_back(taken);
                return Err(out);
            }
            taken.released &= !(u64::MAX >> (64 - run) << at);
        }
        let span = self.records.pop().expect("there is a record for every page");
        self.record_count -= 1;
        map.open(span, class, taken.first, pages);
        span.set_needs_zero(!is_zero);
        Ok(Some(span))
    }

    /// How many records are missing for so many pages.
    pub(super) fn missing_records(&self, pages: usize) -> usize {
        pages.saturating_sub(self.record_count)
    }

    pub(super) fn add_record(&mut self, record: &'static Span) {
        record.set_state(State::Supplied);
        self.records.push(record);
        self.record_count += 1;
    }

    /// Fills an empty one; no page from `fresh` on has been used.
    pub(super) fn fill(&mut self, pages: PageCache, fresh: usize) {
        (self.pages, self.fresh) = (pages, fresh);
    }

    /// The pages, for the page heap to take back.
    pub(super) fn pages(&mut self) -> &mut PageCache {
        &mut self.pages
    }

    /// For the verifier: the pages, whatever they say, ...
    pub(super) fn cached_pages(&self) -> &PageCache {
        &self.pages
    }

    /// ... and how many records are here, if all is well with them.
    pub(super) fn check(&self, is_record: impl Fn(*const Span) -> bool) -> Option<usize> {
        let enough = self.record_count >= self.pages.count();
        let listed = self.records.check(self.record_count, is_record, |span, _| span.state() == State::Supplied)?;
        Some(listed).filter(|&listed| enough && listed == self.record_count)
    }
}

#[cfg(test)]
impl Supply {
    /// For corruption.rs: where the records begin, and how many there are.
    pub(super) fn places(&self) -> (*const usize, *const usize) {
        (self.records.head(), &raw const self.record_count)
    }
}
