//! The heap. Go: malloc.go, mheap.go.
//!
//! Allocating a small object goes up a hierarchy of caches:
//!
//!  1. Round the size up to one of 67 slot sizes (`size_class`, `span_class`) and look at this CPU's current span of
//!     that class ([`Cache`]). Its window shows the free slots of a neighbourhood as the set bits of one word
//!     (`window`): clear the lowest, done. No lock, 10 instructions; with the section around them, and the writing of its two words, a
//!     16-byte object takes 19. One of fewer than 16 bytes without references shares a slot with those before it (`tiny`): 15.
//!  2. The word is 0: move the window to the next word with a free slot. Still no lock.
//!  3. The span is full: put it aside, with this CPU's other full ones of the class, and take one with free slots from the class's
//!     [`Central`] list. One lock, none if nothing is there. Are some of the class not swept yet? Sweep them (`sweep`), until one has room.
//!  4. There is none: make a span of this CPU's own free pages, 8 KiB each, with a record it has ready (`supply`); for ambiguous
//!     objects it has others than for the rest, as in 7. No lock. While spans are not swept yet some of them are first: their pages may
//!     come back.
//!  5. It has none: fill the supply with what is free of the 64 pages around the lowest free one. A span of 16 pages
//!     and more, or one for which the supply has no run, is made of the lowest run that fits (`page_heap`).
//!     Both are found in a radix tree over bitmaps (`pages`). The page heap's lock.
//!  6. There is no such run: add more of the reserved addresses (`arena`), in chunks of 4 MiB.
//!  7. Pages without memory get it before they become a span, 2 MiB at a time, unless somebody has others of these pages. The platform
//!     can map them as one huge page; but a machine maps chunks for ambiguous objects by small pages, of 4 KiB, of each of which the
//!     processor notes whether it was written to, for the collector to look there again. The platform's frames.
//!  8. There are none: [`Shortage::Exhausted`]. The caller may collect and try again, or sweep all first
//!     ([`Shortage::Unswept`]); the heap never calls the collector.
//!
//! An object above 32,760 bytes has a span of its own and starts at step 4 (`large`); before, its share of what is unswept is
//! swept, until as many pages have come back as it takes. One of more than 2 MiB has its span first and goes through step 7
//! then, in a section for each 2 MiB. Steps 3 and 4 say [`Shortage::Trigger`] instead when as much has been allocated as the
//! pacer allows before the next collection.
//!
//! Freeing goes the other way:
//!
//!  1. The collector asks of any word which object it points into ([`Heap::find`]): one table says which span has the
//!     page, one multiplication which slot (`find_object`). It marks the slot in the span's record (`marks`).
//!  2. When all is marked, every span is unswept: dead objects may be in it. Sweeping it, before it is used again, makes the
//!     marks the allocation bits: unmarked slots are free. A span with none marked gives its pages back (`sweep`): bits are
//!     cleared, and the summaries above them say so.
//!  3. Who knows that an object is dead can free its slot at once, if the span is still this CPU's; else the bit is cleared that says it is
//!     alive, and whoever takes or sweeps the span finds room. A large object's pages are free at once. What is no object, or none any
//!     more, is named (`free`).
//!  4. The platform gets the memory of free pages back, the pages stay ours (`release`): whole huge pages in the background, where the heap
//!     has more than it will need (gc/scavenger.rs); pieces too when asked, when a memory limit would be passed, when no frames are left.
//!
//! Freed slots are dirty, and so is fresh memory, but where the platform gives zeroes (`zero`). A noscan object stays so unless zeroes
//! were asked for; a precise one has its mask (`pointer_map`) or, over 512 bytes, its pattern (`pattern`) written before it can be seen,
//! and its owner writes the words that these name; an ambiguous slot is zeroed, all of it. Zeroing a large object takes
//! long: it is noscan until then, and safepoints are let in.
//!
//! Invariants. Every page is free, in exactly one span, or in one CPU's supply, and is all its life mapped as its chunk
//! is. In a span it has memory, unless that is of a large object in the making. A span's bits describe exactly its slots
//! ([`Heap::check_with`]). A cached span belongs to one CPU. Records about memory come from a [`FixedPool`] or a `Table`,
//! never from the heap they describe. Before anything is marked, all is swept. Locks: the page heap's, a class's; no
//! function returns with either, the walker alone holds both, and callers hold safepoints off around all of them.
//!
//! How much of each class was allocated and freed, and how often each level was asked, is counted where a span changes hands, never on the
//! way of an object for which there is a slot, and in a ledger of the CPU's own (`counts`). A collection begins by flushing the caches:
//! full spans go to the lists, pages to the page heap, ledgers into the accounts.
//!
//! What the records take, for each GiB of heap: 1 MiB to find a page's span, 39 KiB to find free pages, and 324 bytes a
//! span.

mod arena;
mod cache;
mod central;
mod check;
mod clobber;
mod counts;
mod find_object;
mod fixed_pool;
mod free;
mod large;
mod marks;
mod page_heap;
mod pages;
mod pattern;
mod pointer_map;
mod release;
mod size_class;
mod span;
mod span_class;
mod span_list;
mod supply;
mod sweep;
mod table;
mod tiny;
mod window;
mod zero;

#[cfg(test)]
mod corruption;
#[cfg(test)]
pub(crate) mod pretend;
#[cfg(test)]
mod tests;

pub(crate) use arena::ARENA;
pub(crate) use cache::{Cache, EMPTY};
pub(crate) use clobber::clobber;
pub(crate) use counts::{Counted, Level};
pub(crate) use find_object::{Snapshot, prefetch};
pub(crate) use fixed_pool::FixedPool;
pub(crate) use marks::Slot;
pub use pattern::Pattern;
pub(crate) use pattern::Reading;
pub(crate) use release::Portion;
pub(crate) use size_class::SIZE_CLASSES;
pub(crate) use span::{Object, Span};
pub(crate) use span_class::{Kind, References, SpanClass};
pub(crate) use tiny::BLOCK;
pub(crate) use zero::zero;

use crate::addr::{Bytes, Pages, Range};
use crate::platform::{OutOfFrames, Platform};
use crate::switch_off::{self, Mechanism};
use central::Central;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use counts::{Counts, Ledger};
use find_object::SpanMap;
use page_heap::PageHeap;
use pages::Mapping;
use span::State;
use span_list::FullSpans;
use spin::{Mutex, Once};
use supply::{Supply, TOO_MANY};
use sweep::Sweep;

/// Why there is no object yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shortage {
    /// As much as the pacer allows has been allocated: collect first.
    Trigger,
    /// The platform has not enough memory, but not all is swept.
    Unswept,
    /// The platform has not enough memory, only `left`.
    Exhausted { left: Bytes },
}

impl From<OutOfFrames> for Shortage {
    fn from(out: OutOfFrames) -> Shortage {
        Shortage::Exhausted { left: out.left }
    }
}

/// The memory of the records of spans, those that wait for their next use included or not, and of what finds spans and free pages.
pub(crate) struct Records {
    pub(crate) spans_in_use: Bytes,
    pub(crate) spans: Bytes,
    pub(crate) finders: Bytes,
}

pub(crate) struct Heap {
    map: SpanMap,
    live: AtomicUsize,
    trigger: AtomicUsize,
    clobbers: AtomicBool,
    combined: AtomicUsize,
    sweep: Sweep,
    counts: Counts,
    platform: Once<&'static dyn Platform>,
    page_heap: Mutex<PageHeap>,
    centrals: [Central; SpanClass::COUNT],
}

impl Heap {
    /// A heap that owns nothing: [`find`](Heap::find) finds nothing, and to allocate is a bug until
    /// [`init`](Heap::init).
    pub(crate) const fn new() -> Heap {
        Heap {
            map: SpanMap::new(),
            live: AtomicUsize::new(0),
            trigger: AtomicUsize::new(usize::MAX),
            clobbers: AtomicBool::new(false),
            combined: AtomicUsize::new(0),
            sweep: Sweep::new(),
            counts: Counts::new(),
            platform: Once::new(),
            page_heap: Mutex::new(PageHeap::new()),
            centrals: [const { Central::new() }; SpanClass::COUNT],
        }
    }

    /// Reserves the heap's addresses, once. No memory is taken before the first object.
    ///
    /// # Errors
    /// The address plan has no room.
    pub(crate) fn init(&self, platform: &'static dyn Platform) -> Result<(), Shortage> {
        self.platform.call_once(|| platform);
        if self.page_heap.lock().reserve(platform, &self.map) {
            return Ok(());
        }
        Err(Shortage::Exhausted { left: platform.free_memory() })
    }

    /// The slot that a word points into, be it at its base or inside. Any word at all may be asked. The slot may be
    /// free: before an ambiguous word keeps anything alive, ask [`Object::is_allocated`].
    ///
    /// O(1), no lock: the collector asks for every word it reads.
    #[inline(always)]
    pub(crate) fn find(&self, word: usize) -> Option<Object> {
        self.map.find(word)
    }

    /// What [`find`](Heap::find) needs, for as long as the heap does not grow.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.map.snapshot()
    }

    /// What has been allocated and not yet found dead, if this is the one cache that there is. Go: `heapLive`. The free
    /// slots of a cached span count as allocated.
    pub(crate) fn live(&self, cache: &Cache) -> Bytes {
        self.live_with([&cache.ledger])
    }

    /// At how many [`live`](Heap::live) bytes allocations ask for a collection; `usize::MAX`, as at first: never.
    pub(crate) fn trigger(&self) -> Bytes {
        Bytes(self.trigger.load(Relaxed))
    }

    pub(crate) fn set_trigger(&self, trigger: Bytes) {
        self.trigger.store(trigger.0, Relaxed);
    }

    /// How many tiny objects have shared a slot with one before them, and so are no slot of their own in any other count; without what
    /// caches have not [flushed](Cache::flush). Go: `tinyAllocs`.
    pub(crate) fn combined(&self) -> usize {
        self.combined.load(Relaxed)
    }

    /// The addresses that the heap's memory is in, now and as it grows.
    pub(crate) fn reserved(&self) -> Range {
        self.page_heap.lock().arenas.range()
    }

    /// What the heap has grown to, whether there is still memory behind it or not.
    pub(crate) fn grown(&self) -> Bytes {
        self.map.length()
    }

    /// How much of that has no memory behind it.
    pub(crate) fn released(&self) -> Bytes {
        let with_memory = self.with_memory();
        Bytes(self.grown().0 - with_memory.0)
    }

    /// The rest: free or not, the platform has given memory for it. Go: `heapRetained`.
    pub(crate) fn with_memory(&self) -> Bytes {
        Bytes(self.map.with_memory(Mapping::Huge).bytes().0 + self.on_small_pages().0)
    }

    /// How much of it is mapped by huge pages, if the platform can tell.
    pub(crate) fn on_huge_pages(&self) -> Option<Bytes> {
        self.platform().on_huge_pages(Range::new(self.reserved().start, self.grown()))
    }

    /// How much of it is mapped by pages of 4 KiB because it is for ambiguous objects.
    pub(crate) fn on_small_pages(&self) -> Bytes {
        self.map.with_memory(Mapping::Small).bytes()
    }

    /// What the heap's records take.
    pub(crate) fn records(&self) -> Records {
        let page_heap = self.page_heap.lock();
        Records {
            spans_in_use: page_heap.spans.in_use(),
            spans: page_heap.spans.committed(),
            finders: Bytes(page_heap.arenas.records().0 + page_heap.pages.records().0),
        }
    }

    /// The spans in use, each at the time when it is reached. No lock is held meanwhile.
    pub(crate) fn spans(&self) -> impl Iterator<Item = &'static Span> + use<> {
        self.page_heap.lock().spans.all().filter(|span| span.is_open())
    }

    /// A span of this class with free slots, now the caller's alone to allocate from.
    ///
    /// # Errors
    /// [`Shortage::Trigger`], unless the caller means to go on `even_past_trigger`; the others if no memory is left.
    fn take_span(
        &self,
        cache: &mut Cache,
        class: SpanClass,
        zeroed: bool,
        even_past_trigger: bool,
    ) -> Result<&'static Span, Shortage> {
        self.may_allocate(&cache.ledger, even_past_trigger)?;
        self.sweep_share(&cache.ledger, class.pages());
        let (span, free) = match self.take_partial(class) {
            Some(span) => {
                cache.ledger.passed(Level::Central);
                (span, span.free_slots())
            }
            None => {
                self.reclaim();
                let span = self.allocate_span(cache, class, class.pages(), Pages(1), class.kind())?;
                if zeroed {
                    span.zero_all();
                }
                (span, span.slots() as usize)
            }
        };
        // What was freed by hand has never ceased to count.
        cache.ledger.taken(class, free, Bytes((free - span.freed()) * span.slot_bytes().0));
        self.let_others_know(&mut cache.ledger);
        span.set_freed(0);
        span.set_state(State::Cached);
        span.begin_allocating();
        if class.has_masks() {
            span.prefetch_pointer_map();
        }
        Ok(span)
    }

    /// Takes back a span that `take_span` gave. A full one, as most are, goes to those of its class that this CPU keeps.
    fn put_span(&self, ledger: &mut Ledger, full: &mut FullSpans, span: &'static Span) {
        span.end_allocating();
        span.set_state(State::Listed);
        if span.has_room() {
            ledger.given_up(span, span.free_slots());
            self.central(span.class()).put([span]);
        } else {
            full.push(span);
        }
    }

    /// How the memory of such objects is to be mapped. The processor notes of each entry of a page table whether it was written through: of
    /// ambiguous objects that is to be known for each 4 KiB.
    fn mapping(&self, kind: Kind) -> Mapping {
        let is_small = kind == Kind::Ambiguous && self.platform().has_small_pages();
        if is_small && !switch_off::is_off(Mechanism::SmallPages) { Mapping::Small } else { Mapping::Huge }
    }

    /// A new span, which nobody waits to sweep.
    fn allocate_span(
        &self,
        cache: &mut Cache,
        class: SpanClass,
        pages: Pages,
        align: Pages,
        kind: Kind,
    ) -> Result<&'static Span, Shortage> {
        let Cache { supplies, ledger, .. } = cache;
        let supply = &mut supplies[self.mapping(kind) as usize];
        let span = self.make_span(supply, ledger, class, pages, align).map_err(|out| self.shortage(out))?;
        ledger.opened(pages);
        span.set_generation(self.generation());
        Ok(span)
    }

    fn shortage(&self, out: OutOfFrames) -> Shortage {
        if self.unswept() > Pages(0) { Shortage::Unswept } else { out.into() }
    }

    /// A span as [`PageHeap::allocate`] gives; a short one of this CPU's own pages, without a lock as long as there are some.
    fn make_span(
        &self,
        supply: &mut Supply,
        ledger: &mut Ledger,
        class: SpanClass,
        pages: Pages,
        align: Pages,
    ) -> Result<&'static Span, OutOfFrames> {
        let is_short = pages < TOO_MANY && align <= Pages(1);
        if is_short && let Some(span) = supply.take(self.platform(), &self.map, class, pages)? {
            ledger.passed(Level::Supply);
            return Ok(span);
        }
        let mut page_heap = self.page_heap.lock();
        if is_short && supply.is_empty() {
            page_heap.fill(self.platform(), &self.map, supply)?;
            ledger.passed(Level::Fill);
            if let Some(span) = supply.take(self.platform(), &self.map, class, pages)? {
                ledger.passed(Level::Supply);
                return Ok(span);
            }
        }
        let span = page_heap.allocate(self.platform(), &self.map, supply.mapping(), class, pages, align)?;
        ledger.passed(Level::PageHeap);
        Ok(span)
    }

    /// Takes the pages back that a CPU has put by.
    fn drain(&self, supplies: &mut [Supply; 2]) {
        for supply in supplies.iter_mut().filter(|supply| !supply.is_empty()) {
            self.page_heap.lock().drain(supply);
        }
    }

    fn may_allocate(&self, ledger: &Ledger, even_past_trigger: bool) -> Result<(), Shortage> {
        if !even_past_trigger && self.live_with([ledger]) >= self.trigger() { Err(Shortage::Trigger) } else { Ok(()) }
    }

    /// The spans of large objects are together, whatever their kind: it changes when the object is zeroed.
    fn central(&self, class: SpanClass) -> &Central {
        let class = if class.is_large() { SpanClass::large(Kind::Noscan) } else { class };
        &self.centrals[class.index() as usize]
    }

    fn platform(&self) -> &'static dyn Platform {
        *self.platform.get().expect("the heap is initialised before it is used")
    }
}
