//! Counts: what was allocated and freed, by class, and which levels of the heap were asked for it. Go: `heapStatsDelta` in mstats.go.
//!
//! Nothing is counted on the way of an object whose CPU has a free slot for it. A span's free slots count as allocated when a CPU takes it,
//! and what of them it brings back is taken off again; whoever wants to know in between looks into the cache.
//!
//! A CPU that takes a span counts in its own [`Ledger`], which is entered in the heap's accounts now and then. A locked instruction each
//! time would wait until memory has all that was stored before it, and objects have just been cleared.

use super::span::Span;
use super::{Cache, Heap, SpanClass};
use crate::addr::{Bytes, Pages};
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(super) struct Counts {
    allocated: [AtomicUsize; SpanClass::COUNT],
    freed: [AtomicUsize; SpanClass::COUNT],
    large_allocated: AtomicUsize,
    large_freed: AtomicUsize,
    levels: [AtomicUsize; Level::COUNT],
}

/// Where a cache without a free slot, or a large object, found its span. The numbers are those of the steps in `mod.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// 3: a class's central list had a span with free slots.
    Central,
    /// 4: a span was made of the CPU's own pages.
    Supply,
    /// 5: the CPU's own pages were found in the radix tree.
    Fill,
    /// 5: a span's own pages were.
    PageHeap,
}

impl Level {
    pub(crate) const COUNT: usize = Level::PageHeap as usize + 1;
}

/// Since the start. A slot that its owner gave back while its CPU had the span, and that was free again when the CPU gave the span up, was
/// never allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) allocated: usize,
    pub(crate) freed: usize,
}

/// What one CPU has counted since its ledger was last [entered](Heap::enter).
pub(super) struct Ledger {
    /// See [`Heap::live`]. Bytes; negative if a CPU brought back more than it took since.
    live: isize,
    /// Pages that are in spans now.
    owned: usize,
    /// Slots, by class. Of a span more may come back than were taken: its CPU also has those that were freed by hand meanwhile.
    allocated: [usize; SpanClass::COUNT],
    levels: [usize; Level::COUNT],
}

/// Other CPUs know of all live bytes but so many.
const UNENTERED: isize = 256 << 10;

impl Ledger {
    pub(super) const fn new() -> Ledger {
        Ledger { live: 0, owned: 0, allocated: [0; SpanClass::COUNT], levels: [0; Level::COUNT] }
    }

    pub(super) fn passed(&mut self, level: Level) {
        self.levels[level as usize] += 1;
    }

    /// These pages are a span's now.
    pub(super) fn opened(&mut self, pages: Pages) {
        self.owned += pages.0;
    }

    /// The CPU has taken a span with so many free slots, of which some bytes have not counted as live, ...
    pub(super) fn taken(&mut self, class: SpanClass, slots: usize, live: Bytes) {
        let allocated = &mut self.allocated[class.index() as usize];
        *allocated = allocated.wrapping_add(slots);
        self.live += live.0 as isize;
    }

    /// ... or gives one up.
    pub(super) fn given_up(&mut self, span: &Span, slots: usize) {
        let allocated = &mut self.allocated[span.class().index() as usize];
        *allocated = allocated.wrapping_sub(slots);
        self.live -= (slots * span.slot_bytes().0) as isize;
    }
}

impl Counts {
    pub(super) const fn new() -> Counts {
        Counts {
            allocated: [const { AtomicUsize::new(0) }; SpanClass::COUNT],
            freed: [const { AtomicUsize::new(0) }; SpanClass::COUNT],
            large_allocated: AtomicUsize::new(0),
            large_freed: AtomicUsize::new(0),
            levels: [const { AtomicUsize::new(0) }; Level::COUNT],
        }
    }

    /// So many slots of a class have been allocated,
    pub(super) fn taken(&self, class: SpanClass, slots: usize) {
        self.allocated[class.index() as usize].fetch_add(slots, Relaxed);
    }

    /// or were not after all.
    pub(super) fn given_up(&self, class: SpanClass, slots: usize) {
        self.allocated[class.index() as usize].fetch_sub(slots, Relaxed);
    }

    /// A large object has its span.
    pub(super) fn large_allocated(&self, span: &Span) {
        self.taken(span.class(), 1);
        self.large_allocated.fetch_add(span.slot_bytes().0, Relaxed);
    }

    /// It is none after all.
    pub(super) fn large_refused(&self, span: &Span) {
        self.given_up(span.class(), 1);
        self.large_allocated.fetch_sub(span.slot_bytes().0, Relaxed);
    }

    /// So many objects that no CPU's cache has are free now; a large one has so many pages.
    pub(super) fn freed(&self, class: SpanClass, slots: usize, pages: Pages) {
        if slots > 0 {
            self.freed[class.index() as usize].fetch_add(slots, Relaxed);
            if class.is_large() {
                self.large_freed.fetch_add(pages.bytes().0, Relaxed);
            }
        }
    }

    /// How many objects of a class there are, if every slot of a cached span is one.
    pub(super) fn held<'a>(&self, class: usize, ledgers: impl Iterator<Item = &'a Ledger>) -> usize {
        let entered = self.allocated[class].load(Relaxed).wrapping_sub(self.freed[class].load(Relaxed));
        ledgers.fold(entered, |held, ledger| held.wrapping_add(ledger.allocated[class]))
    }
}

impl Heap {
    /// Enters what a CPU has counted.
    pub(super) fn enter(&self, ledger: &mut Ledger) {
        let Ledger { owned, allocated, levels, .. } = ledger;
        let add = |account: &AtomicUsize, count: &mut usize| {
            if *count != 0 {
                account.fetch_add(mem::take(count), Relaxed);
            }
        };
        self.counts.allocated.iter().zip(allocated).for_each(|(account, count)| add(account, count));
        self.counts.levels.iter().zip(levels).for_each(|(account, count)| add(account, count));
        self.map.count(Pages(mem::take(owned)));
        self.enter_live(ledger);
    }

    fn enter_live(&self, ledger: &mut Ledger) {
        self.live.fetch_add(mem::take(&mut ledger.live) as usize, Relaxed);
    }

    /// As [`enter_live`](Heap::enter_live), if that is due.
    #[inline]
    pub(super) fn let_others_know(&self, ledger: &mut Ledger) {
        if ledger.live >= UNENTERED {
            self.enter_live(ledger);
        }
    }

    /// What is [live](Heap::live), as far as it was entered and in these ledgers.
    pub(super) fn live_with<'a>(&self, ledgers: impl IntoIterator<Item = &'a Ledger>) -> Bytes {
        Bytes(ledgers.into_iter().fold(self.live.load(Relaxed), |live, ledger| live.wrapping_add_signed(ledger.live)))
    }

    /// How many pages are in spans, these CPUs' new ones too.
    pub(super) fn owned_with<'a>(&self, ledgers: impl IntoIterator<Item = &'a Ledger>) -> Pages {
        Pages(ledgers.into_iter().fold(self.map.owned().0, |owned, ledger| owned.wrapping_add(ledger.owned)))
    }

    /// How much of the heap is in spans, if this is the one cache that there is.
    pub(crate) fn pages_in_use(&self, cache: &Cache) -> Pages {
        self.owned_with([&cache.ledger])
    }

    /// What was allocated in a class, but for the free slots of the one cache that there is.
    pub(crate) fn counted(&self, class: SpanClass, cache: &Cache) -> Counted {
        let at = class.index() as usize;
        let [allocated, freed] = [&self.counts.allocated, &self.counts.freed].map(|counts| counts[at].load(Relaxed));
        let allocated = allocated.wrapping_add(cache.ledger.allocated[at]);
        Counted { allocated: allocated - cache.free_slots(class), freed }
    }

    /// The bytes of large objects, allocated and freed.
    pub(crate) fn counted_large(&self) -> (Bytes, Bytes) {
        let [allocated, freed] = [&self.counts.large_allocated, &self.counts.large_freed];
        (Bytes(allocated.load(Relaxed)), Bytes(freed.load(Relaxed)))
    }

    /// How often this level was asked, if this is the one cache that there is.
    pub(crate) fn passed(&self, level: Level, cache: &Cache) -> usize {
        self.counts.levels[level as usize].load(Relaxed) + cache.ledger.levels[level as usize]
    }

    /// How often the heap has grown.
    pub(crate) fn growths(&self) -> usize {
        self.page_heap.lock().growths
    }
}

#[cfg(test)]
impl Ledger {
    /// For corruption.rs: the bytes, the pages, and what is counted of a class.
    pub(super) fn places(&self, class: SpanClass) -> (*const isize, *const usize, *const usize) {
        (&raw const self.live, &raw const self.owned, &raw const self.allocated[class.index() as usize])
    }
}

#[cfg(test)]
impl Counts {
    /// For corruption.rs: what is counted of a class.
    pub(super) fn places(&self, class: SpanClass) -> [*const usize; 2] {
        [&self.allocated, &self.freed].map(|counts| counts[class.index() as usize].as_ptr().cast_const())
    }
}

#[cfg(test)]
impl Heap {
    /// Objects whose slots sweeping has freed, or their owners.
    pub(super) fn freed_objects(&self) -> usize {
        self.counts.freed.iter().map(|count| count.load(Relaxed)).sum()
    }
}
