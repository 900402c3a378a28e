//! The page heap: makes spans of free pages and free pages of spans, and takes memory from the platform when there
//! are none. Everything here is under one lock. Go: allocSpan, freeSpan and grow in mheap.go.

use super::arena::{ARENA, Arenas, CHUNK, MOST};
use super::find_object::SpanMap;
use super::fixed_pool::FixedPool;
use super::pages::{CHUNK_PAGES, HUGE_PAGES, Mapping, PageAllocator, Run};
use super::span::{Span, State};
use super::span_class::SpanClass;
use super::supply::Supply;
use crate::addr::{Bytes, PAGE, Pages};
use crate::platform::{OutOfFrames, Platform};
use core::ops;

pub(super) struct PageHeap {
    pub(super) arenas: Arenas,
    pub(super) pages: PageAllocator,
    pub(super) spans: FixedPool<Span>,
    /// By [`Mapping`]: no page from here on has been in use since it was first committed. Go: `zeroedBase`, one for each arena.
    fresh: [usize; 2],
    /// How much of the platform's memory is to stay free, because of the memory limit.
    pub(super) least_free: Bytes,
    /// How often the heap has grown.
    pub(super) growths: usize,
}

impl PageHeap {
    pub(super) const fn new() -> PageHeap {
        PageHeap {
            arenas: Arenas::new(),
            pages: PageAllocator::new(),
            spans: FixedPool::new(),
            fresh: [0; 2],
            least_free: Bytes(0),
            growths: 0,
        }
    }

    /// Takes addresses for the heap and all its records. `false`: the address plan has no room for them.
    pub(super) fn reserve(&mut self, platform: &dyn Platform, map: &SpanMap) -> bool {
        self.arenas.reserve(platform, map).is_some_and(|heap| {
            // A span has at least a page.
            self.pages.reserve(platform, heap.0 / CHUNK.0) && self.spans.reserve(platform, heap.0 / PAGE.0)
        })
    }

    /// A span of so many pages that are mapped so, its base a multiple of `align` pages, contents unspecified. It is in nobody's list
    /// yet, but already found by address. One of more than 2 MiB is [bare](State::Bare) if some of them have no memory. On failure nothing
    /// has changed, but that the heap may have grown.
    pub(super) fn allocate(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        mapping: Mapping,
        class: SpanClass,
        pages: Pages,
        align: Pages,
    ) -> Result<&'static Span, OutOfFrames> {
        // The heap starts at a multiple of an arena, no more is known of its pages' addresses.
        if align.bytes() > ARENA || pages.bytes() > MOST {
            return Err(OutOfFrames { left: platform.free_memory() });
        }
        let span = self.spans.take(platform, Span::empty)?;
        let mut first = self.pages.take(mapping, pages.0, align.0);
        if first.is_none() {
            if let Err(out) = self.grow(platform, map, mapping, pages, align) {
                self.spans.give_back(span);
                return Err(out);
            }
            first = self.pages.take(mapping, pages.0, align.0);
        }
        let first = first.expect("the heap has just grown by enough");
        let fresh = self.fresh[mapping as usize];
        let taken = first..first + pages.0;
        let is_zero = platform.commits_zeroes() && (first >= fresh || self.pages.released_in(taken.clone()) == pages.0);
        let is_bare = pages.0 > HUGE_PAGES && self.pages.next_released(taken.clone()).is_some();
        let outcome = if is_bare {
            self.expect_memory(platform, taken.clone())
        } else {
            self.commit_all(platform, map, mapping, taken.clone())
        };
        match outcome {
            Ok(()) => {
                self.fresh[mapping as usize] = fresh.max(taken.end);
                map.open(span, class, first, pages);
                if is_bare {
                    span.set_state(State::Bare);
                }
                span.set_needs_zero(!is_zero);
                Ok(span)
            }
            Err(out) => {
                self.pages.give_back(first, pages.0);
                self.spans.give_back(span);
                Err(out)
            }
        }
    }

    /// Sees to it that all pages just taken have memory.
    fn commit_all(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        mapping: Mapping,
        taken: ops::Range<usize>,
    ) -> Result<(), OutOfFrames> {
        let mut at = taken.start;
        while at < taken.end {
            at = self.commit_next(platform, map, mapping, at, taken.clone())?;
        }
        Ok(())
    }

    /// Sees to it that the first of the pages `taken` from `at` on that have no memory get it, up to the next multiple
    /// of 2 MiB: all 2 MiB at once if nobody else has any of them. Returns up to where all have some.
    fn commit_next(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        mapping: Mapping,
        at: usize,
        taken: ops::Range<usize>,
    ) -> Result<usize, OutOfFrames> {
        // Also where neighbours alone lack some: perhaps the huge page can be joined.
        let around = at - at % HUGE_PAGES..taken.end.next_multiple_of(HUGE_PAGES);
        let Some((lacking, _)) = self.pages.next_released(around) else { return Ok(taken.end) };
        let huge = lacking - lacking % HUGE_PAGES;
        let (at, end) = (at.max(huge), taken.end.min(huge + HUGE_PAGES));
        self.commit_huge(platform, map, mapping, huge, taken);
        while let Some((at, run)) = self.pages.next_released(at..end) {
            self.make_way(platform, map, Pages(run).bytes());
            map.commit_again(platform, mapping, at, Pages(run))?;
            self.pages.set_released(at, run, false);
        }
        Ok(end)
    }

    /// Gives the next 2 MiB of a bare span memory, of which the first `done` pages have some.
    pub(super) fn commit_more(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        span: &Span,
        done: &mut Pages,
    ) -> Result<(), OutOfFrames> {
        let first = self.arenas.page_number(span.base());
        let taken = first..first + span.pages().0;
        let mut at = first + done.0;
        loop {
            at = self.commit_next(platform, map, self.pages.mapping(first), at, taken.clone())?;
            if at == taken.end {
                span.set_state(State::Large);
                return Ok(());
            }
            // Else none but neighbours' pages lack some, of the last 2 MiB.
            if self.pages.next_released(at..taken.end).is_some() {
                *done = Pages(at - first);
                return Ok(());
            }
        }
    }

    /// Whether there could be memory for all of these pages, if what is free of the heap makes way: who takes it piece by piece would
    /// otherwise take all that is left from everybody, and not have enough.
    fn expect_memory(&self, platform: &dyn Platform, taken: ops::Range<usize>) -> Result<(), OutOfFrames> {
        let left = platform.free_memory();
        let free = || Pages(self.pages.free_with_memory()).bytes().0;
        let is_there =
            Pages(taken.len()).bytes() <= left || Pages(self.pages.released_in(taken)).bytes().0 <= left.0 + free();
        if is_there { Ok(()) } else { Err(OutOfFrames { left }) }
    }

    /// Gives the 2 MiB with `page` memory in one piece, if nobody has any of it but who has `taken` these pages, and there is memory for it
    /// within the limit. What of a huge page had some, in pieces, gives it back first: so one that was split is joined.
    fn commit_huge(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        mapping: Mapping,
        page: usize,
        taken: ops::Range<usize>,
    ) {
        let Some((first, with_memory)) = self.pages.whole_huge(page, taken) else { return };
        let needed = Pages(HUGE_PAGES - with_memory).bytes();
        let is_in_pieces = with_memory > 0;
        if is_in_pieces && mapping == Mapping::Small || platform.free_memory().0 < self.least_free.0 + needed.0 {
            return;
        }
        if is_in_pieces {
            map.decommit(platform, Run { first, pages: HUGE_PAGES, with_memory, mapping });
            self.pages.set_huge_released(first, true);
        }
        if map.commit_again(platform, mapping, first, Pages(HUGE_PAGES)).is_ok() {
            self.pages.set_huge_released(first, false);
        }
    }

    /// Gives back the pages of spans that are in no list and no cache, and their records; neighbours' pages together.
    pub(super) fn free(&mut self, map: &SpanMap, spans: impl IntoIterator<Item = &'static Span>) {
        let mut run = 0..0;
        for span in spans {
            let first = self.arenas.page_number(span.base());
            let end = first + span.pages().0;
            if end == run.start {
                run.start = first;
            } else if first == run.end {
                run.end = end;
            } else {
                self.free_pages(map, core::mem::replace(&mut run, first..end));
            }
            span.set_state(State::Free);
            self.spans.give_back(span);
        }
        self.free_pages(map, run);
    }

    fn free_pages(&mut self, map: &SpanMap, run: ops::Range<usize>) {
        if !run.is_empty() {
            map.clear_owners(run.start, Pages(run.len()));
            self.pages.give_back(run.start, run.len());
        }
    }

    /// Fills an empty supply: at least one page, a record for each. On failure nothing has changed, but that the heap may have grown.
    pub(super) fn fill(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        supply: &mut Supply,
    ) -> Result<(), OutOfFrames> {
        let mapping = supply.mapping();
        if self.pages.lowest_free(mapping).is_none() {
            self.grow(platform, map, mapping, Pages(1), Pages(1))?;
        }
        let lowest = self.pages.lowest_free(mapping).expect("the heap has grown if there was none");
        self.commit_huge(platform, map, mapping, lowest, 0..0);
        let mut pages = self.pages.take_cache(mapping).expect("there is a free page");
        for _ in 0..supply.missing_records(pages.count()) {
            match self.spans.take(platform, Span::empty) {
                Ok(record) => supply.add_record(record),
                Err(out) => {
                    self.pages.give_back_cache(&mut pages);
                    return Err(out);
                }
            }
        }
        // What they lack they get later without this lock, when nobody could make way any more.
        self.make_way(platform, map, Pages(pages.released()).bytes());
        let fresh = self.fresh[mapping as usize];
        self.fresh[mapping as usize] = fresh.max(pages.end());
        supply.fill(pages, fresh);
        Ok(())
    }

    /// Takes a supply's pages back, for others to use, in longer runs. Its records stay.
    pub(super) fn drain(&mut self, supply: &mut Supply) {
        self.pages.give_back_cache(supply.pages());
    }

    /// Adds pages without memory, so that a run of so many is there.
    fn grow(
        &mut self,
        platform: &dyn Platform,
        map: &SpanMap,
        mapping: Mapping,
        pages: Pages,
        align: Pages,
    ) -> Result<(), OutOfFrames> {
        let (end, chunks) = (self.pages.end() / CHUNK_PAGES, self.pages.missing_chunks(mapping, pages.0, align.0));
        let left = platform.free_memory();
        if (chunks - 1) * CHUNK.0 > left.0 {
            return Err(OutOfFrames { left });
        }
        self.pages.make_room(platform, end + chunks)?;
        self.arenas.grow(platform, map, chunks)?;
        self.pages.add(mapping, end, chunks);
        (end..end + chunks).for_each(|chunk| self.pages.set_released(chunk * CHUNK_PAGES, CHUNK_PAGES, true));
        self.growths += 1;
        Ok(())
    }

    pub(super) fn grown(&self) -> Bytes {
        Pages(self.pages.end()).bytes()
    }
}
