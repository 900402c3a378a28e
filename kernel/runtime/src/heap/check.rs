//! The heap walker: every page is in one place (a span, a CPU's supply, free in the bitmap, not there yet), every slot in one state, every
//! record in one list, and the accounts are right. Slow and obviously right: for tests, after each of them, and for the verifier.
//! What it reads may be broken: nothing is believed before it is checked, so it ends and answers whatever it finds.
//!
//! 1. The tables: as long as each other, as long as the heap's memory; each summary is of what is below it ([`PageHeap::check`]).
//! 2. Each span alone: what its class says, it says; its bits say nothing of slots that it does not have ([`Span::check`]).
//! 3. Each span's pages: in use, and its own, with memory unless the span is bare, and zero where they are known to be. Then the counts
//!    agree, so no other page has an owner.
//! 4. The lists: each span is in one list, of its class, or in a cache.
//! 5. The caches: their spans, their slot for tiny objects, then their supplies, whose pages are in use and nobody's. With the spans' these
//!    are all the pages in use, and all records are spans, in a supply or in their pool.
//!
//! What has no second witness cannot be found wrong: which slots of a cached span are taken, pointer masks and patterns, sizes of objects,
//! how a chunk is mapped that has no free page. The corruption tests list them (corruption.rs).

use super::arena::CHUNK;
use super::page_heap::PageHeap;
use super::pages::Mapping;
use super::span::State;
use super::supply::Supply;
use super::window::NOWHERE;
use super::{Cache, Heap, Kind, Span, SpanClass};
use crate::addr::{Address, PAGE, Pages};
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

/// An invariant that does not hold, and the span or page where that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) at: Address,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.invariant, self.at)
    }
}

pub(super) fn ensure(holds: bool, invariant: &'static str, at: Address) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { invariant, at }) }
}

impl Heap {
    /// Checks the heap at rest, whose every cache is given: no collection is marking, nobody allocates. O(pages + slots).
    pub(crate) fn check_with(&self, caches: &[&Cache]) -> Result<(), Broken> {
        let mut page_heap = self.page_heap.lock();
        page_heap.pages.summarize();
        page_heap.check(self)?;
        let at = page_heap.arenas.page(0);
        let mut found = Found::nothing();
        for span in page_heap.spans.all() {
            ensure(span.raw_state() <= State::Bare as u8, "a span is in a state", address_of(span))?;
            found.free += usize::from(span.state() == State::Free);
            found.supplied += usize::from(span.state() == State::Supplied);
            if !span.is_open() {
                continue;
            }
            span.check(self.generation())?;
            page_heap.check_pages(self, span)?;
            ensure(
                span.needs_zero() || span.is_zero_where_free(),
                "what is known to be zero is zero",
                address_of(span),
            )?;
            found.pages += span.pages().0;
            let is_swept = span.is_swept(self.generation());
            found.objects[span.raw_class() as usize] += span.allocated_slots();
            found.live_bytes += span.counted_slots(is_swept) * span.slot_bytes().0;
            found.unswept += if is_swept { 0 } else { span.pages().0 };
            found.listed += usize::from(span.state() != State::Cached);
            found.cached += usize::from(span.state() == State::Cached);
        }
        ensure(found.pages == page_heap.arenas.owned(), "only a span's pages have an owner", at)?;
        let ledgers = || caches.iter().map(|cache| &cache.ledger);
        ensure(found.pages == self.owned_with(ledgers()).0, "pages in spans are counted", at)?;
        ensure(found.live_bytes == self.live_with(ledgers()).0, "live bytes are counted", at)?;
        ensure(found.unswept == self.unswept().0, "unswept pages are counted", at)?;
        let is_counted = |(class, &objects)| objects == self.counts.held(class, ledgers());
        ensure(found.objects.iter().enumerate().all(is_counted), "each class's objects are counted", at)?;
        let waiting = page_heap.spans.check_free(|span| span.state() == State::Free);
        ensure(waiting == Some(found.free), "every unused record waits in its pool", at)?;
        self.check_lists(&page_heap, caches, found.listed)?;
        self.check_caches(&page_heap, caches, &found)
    }

    /// That each class's lists are of its spans, and together of all that are in no cache.
    fn check_lists(&self, page_heap: &PageHeap, caches: &[&Cache], mut listed: usize) -> Result<(), Broken> {
        let at = page_heap.arenas.page(0);
        let is_record = |span| page_heap.spans.record_at(span).is_some();
        let (swept, next_class) = (self.generation(), self.sweep.next_class.load(Relaxed));
        for (nth, class) in (0..).map_while(SpanClass::by_size).enumerate() {
            let central = &self.centrals[class.index() as usize];
            let belongs =
                |span: &Span| span.state() != State::Cached && core::ptr::eq(self.central(span.class()), central);
            for generation in [swept, swept.wrapping_sub(1)] {
                match central.check(generation, listed, is_record, belongs) {
                    Some(here) if here > 0 && generation != swept => {
                        ensure(nth >= next_class, "classes that the sweep is done with are swept", at)?;
                        listed -= here;
                    }
                    Some(here) => listed -= here,
                    None => ensure(false, "a class's lists are of its spans, with and without free slots", at)?,
                }
            }
        }
        for (class, full) in caches.iter().flat_map(|cache| cache.full_spans()) {
            let belongs = |span: &Span, _| {
                let is_full = span.free_slots() == span.freed();
                span.state() == State::Listed && span.raw_class() as usize == class && is_full && span.is_swept(swept)
            };
            let here = full.check(listed, is_record, belongs);
            ensure(here.is_some(), "a CPU's full spans are full, and of their class", at)?;
            listed -= here.unwrap_or(0);
        }
        ensure(listed == 0, "every span that is in no cache is in one list", at)
    }

    /// That what the caches have is theirs, and that nothing is left over then: no span, no record, no page.
    fn check_caches(&self, page_heap: &PageHeap, caches: &[&Cache], found: &Found) -> Result<(), Broken> {
        let at = page_heap.arenas.page(0);
        let is_record = |span| page_heap.spans.record_at(span).is_some();
        let (mut cached, mut records, mut pages) = (0, 0, 0);
        let mut with_memory = [Mapping::Huge, Mapping::Small].map(|mapping| page_heap.pages.with_memory(mapping));
        for (number, cache) in caches.iter().enumerate() {
            for span in cache.check() {
                let (span, at) = span?;
                ensure(is_record(span), "a cached span has a record", at)?;
                cached += 1;
            }
            for supply in &cache.supplies {
                let spare = supply.check(is_record);
                ensure(spare.is_some(), "a supply has a record for each of its pages, and only unused ones", at)?;
                records += spare.unwrap_or(0);
                page_heap.check_supply(supply, &caches[..number])?;
                pages += supply.cached_pages().count();
                with_memory[supply.mapping() as usize] -= supply.cached_pages().released();
            }
            ensure(cache.tiny.check(self), "tiny objects are put into a slot that is taken", at)?;
        }
        ensure(cached == found.cached, "every cached span is in one cache", at)?;
        let counted = [Mapping::Huge, Mapping::Small].map(|mapping| self.map.with_memory(mapping).0);
        ensure(with_memory == counted, "pages with memory are counted", at)?;
        ensure(records == found.supplied, "every supplied record is in one supply", at)?;
        ensure(found.pages + pages == page_heap.pages.used(), "every page in use is in a span or a supply", at)
    }
}

/// What the spans say, all together.
struct Found {
    /// By class.
    objects: [usize; SpanClass::COUNT],
    pages: usize,
    live_bytes: usize,
    unswept: usize,
    listed: usize,
    cached: usize,
    /// Records that are no span, in their pool and in supplies.
    free: usize,
    supplied: usize,
}

impl Found {
    fn nothing() -> Found {
        Found {
            objects: [0; SpanClass::COUNT],
            pages: 0,
            live_bytes: 0,
            unswept: 0,
            listed: 0,
            cached: 0,
            free: 0,
            supplied: 0,
        }
    }
}

impl PageHeap {
    /// That the tables are as long as the memory that they describe, and where [`Heap::find`] thinks they are; that summaries are true.
    fn check(&self, heap: &Heap) -> Result<(), Broken> {
        let at = self.arenas.range().start;
        ensure(self.arenas.check(&heap.map), "owners are looked up where they are", at)?;
        ensure(self.spans.check_table(), "the table of spans is within its memory", at)?;
        ensure(self.pages.check_tables(), "every summary is of what is below it", at)?;
        ensure(heap.map.length() == self.grown(), "all pages are found", at)?;
        ensure(heap.map.length().0.is_multiple_of(CHUNK.0), "memory comes in whole chunks", at)?;
        ensure(self.pages.check_hints(), "no page below the hint is free", at)
    }

    /// That a supply's pages are in use, nobody's, mapped as it says, and in no other supply.
    fn check_supply(&self, supply: &Supply, others: &[&Cache]) -> Result<(), Broken> {
        let at = self.arenas.range().start;
        let cached = supply.cached_pages();
        let mut others = others.iter().flat_map(|other| &other.supplies).map(Supply::cached_pages);
        ensure(others.all(|other| cached.is_apart_from(other)) && cached.check(), "a page is in one supply", at)?;
        for page in cached.pages() {
            ensure(self.pages.is_used(page), "a supply's pages are in use", at)?;
            ensure(self.pages.mapping(page) == supply.mapping(), "a supply's pages are mapped alike", at)?;
            ensure(self.arenas.owner(page).is_null(), "a supply's pages are in no span", self.arenas.page(page))?;
            ensure(!self.pages.is_released(page), "the supply notes which of its pages have no memory", at)?;
        }
        Ok(())
    }

    /// That a sound span's pages are in use, and its own.
    fn check_pages(&self, heap: &Heap, span: &'static Span) -> Result<(), Broken> {
        let end = self.arenas.range().start.plus(heap.map.length());
        let inside = self.arenas.range().start <= span.base() && span.base() < end;
        let room = Pages(end.0.saturating_sub(span.base().0) / PAGE.0);
        ensure(inside && span.pages() <= room, "a span lies in the heap's memory", span.base())?;
        let first = self.arenas.page_number(span.base());
        for page in first..first + span.pages().0 {
            let at = self.arenas.page(page);
            ensure(self.pages.is_used(page), "a span's pages are in use", at)?;
            ensure(self.arenas.owner(page) == core::ptr::from_ref(span), "a page is its span's alone", at)?;
        }
        let is_bare = (first..first + span.pages().0).any(|page| self.pages.is_released(page));
        ensure(is_bare == (span.state() == State::Bare), "of a bare span alone some pages have no memory", span.base())
    }
}

impl Span {
    /// What a span can say of itself.
    fn check(&'static self, generation: u8) -> Result<(), Broken> {
        let at = address_of(self);
        ensure(SpanClass::is_index(self.raw_class()), "a span has a class", at)?;
        let (class, pages) = (self.class(), self.pages());
        ensure(class.is_large() == self.is_large(), "a span of one large object is in no cache", at)?;
        let as_large = class.is_large() && pages.0 > 0 && self.slot_bytes() == pages.bytes();
        let as_small = !class.is_large() && pages == class.pages() && self.slot_bytes().0 == class.slot_bytes();
        ensure(as_large || as_small, "a span is cut as its class says", at)?;
        let has_pattern = class.is_large() && self.has_pattern();
        ensure(
            has_pattern == (class.is_large() && class.kind() == Kind::Precise),
            "a large object has a pattern if it is precise",
            at,
        )?;
        let slots = class.slots();
        ensure(
            self.slots() as usize == slots && self.reciprocal() == class.reciprocal(),
            "a span has its class's slots",
            at,
        )?;
        ensure(self.is_sure() || class.kind() == Kind::Precise, "only precise spans have unsure references", at)?;
        ensure(self.base().is_aligned(PAGE.0), "a span begins with a page", at)?;

        let most_freed = if self.state() == State::Listed { self.free_slots() } else { 0 };
        ensure(self.freed() <= most_freed, "what was freed by hand in a list is free", at)?;

        let is_swept = self.is_swept(generation);
        let may_wait = self.state() != State::Cached && self.is_swept(generation.wrapping_sub(1));
        ensure(is_swept || may_wait, "a span has been swept, or was in the cycle before", at)?;

        let (window, start) = (self.window.load(Relaxed), self.window_start.load(Relaxed));
        if self.state() == State::Cached {
            let inside = start.is_multiple_of(64) && (start as usize) < slots;
            ensure(inside && window & self.beyond(start as usize / 64) == 0, "a window shows slots", at)?;
        } else {
            ensure(window == 0 && start == NOWHERE, "only cached spans have a window", at)?;
        }
        for (word, bits) in self.words().iter().enumerate() {
            let beyond = self.beyond(word);
            let (allocated, marked) = (bits.allocated.load(Relaxed), bits.marked.load(Relaxed));
            ensure(allocated & beyond == beyond, "there is nothing free beyond the last slot", at)?;
            let may_be_marked = if is_swept { 0 } else { allocated & !beyond };
            ensure(marked & !may_be_marked == 0, "only objects of unswept spans are marked", at)?;
        }
        ensure(!self.is_large() || self.free_slots() == 0, "a large span is allocated", at)?;
        ensure(self.state() != State::Bare || class.kind() == Kind::Noscan, "a bare span is read by nobody", at)
    }

    /// The slots that have an object, dead or alive: of a cached one all.
    fn allocated_slots(&self) -> usize {
        self.slots() as usize - if self.state() == State::Cached { 0 } else { self.free_slots() }
    }

    /// The slots that count as live: of a cached one all, of an unswept one what is marked, else also what was freed by hand.
    fn counted_slots(&'static self, is_swept: bool) -> usize {
        if !is_swept {
            return self.marked().count();
        }
        self.allocated_slots() + self.freed()
    }
}

impl Cache {
    /// The spans in this cache, each with its class's place.
    fn check(&self) -> impl Iterator<Item = Result<(&'static Span, Address), Broken>> {
        self.spans().map(|(index, span)| {
            let at = address_of(span);
            let belongs = span.state() == State::Cached && span.raw_class() as usize == index;
            ensure(belongs, "a cached span is in its class's place", at).map(|()| (span, at))
        })
    }
}

fn address_of(span: &Span) -> Address {
    Address((&raw const *span).addr())
}
