//! Counts: what was allocated and freed, by class, and which levels of the heap were asked for it. Go: `heapStatsDelta` in mstats.go.
//!
//! Nothing is counted on the way of an object whose CPU has a free slot for it. A span's free slots count as allocated when a CPU takes it,
//! and what of them it brings back is taken off again; whoever wants to know in between looks into the cache.

use super::span::Span;
use super::{Cache, Heap, SpanClass};
use crate::addr::{Bytes, Pages};
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

    pub(super) fn passed(&self, level: Level) {
        self.levels[level as usize].fetch_add(1, Relaxed);
    }

    /// A CPU has taken a span with so many free slots, ...
    pub(super) fn taken(&self, class: SpanClass, slots: usize) {
        self.allocated[class.index() as usize].fetch_add(slots, Relaxed);
    }

    /// ... or gives one up.
    pub(super) fn given_up(&self, class: SpanClass, slots: usize) {
        self.allocated[class.index() as usize].fetch_sub(slots, Relaxed);
    }

    /// A large object has its span.
    pub(super) fn large_allocated(&self, span: &Span) {
        self.taken(span.class(), 1);
        self.large_allocated.fetch_add(span.slot_bytes().0, Relaxed);
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
    pub(super) fn held(&self, class: usize) -> usize {
        self.allocated[class].load(Relaxed).wrapping_sub(self.freed[class].load(Relaxed))
    }
}

impl Heap {
    /// What was allocated in a class, but for the free slots of the one cache that there is.
    pub(crate) fn counted(&self, class: SpanClass, cache: &Cache) -> Counted {
        let at = class.index() as usize;
        let [allocated, freed] = [&self.counts.allocated, &self.counts.freed].map(|counts| counts[at].load(Relaxed));
        Counted { allocated: allocated - cache.free_slots(class), freed }
    }

    /// The bytes of large objects, allocated and freed.
    pub(crate) fn counted_large(&self) -> (Bytes, Bytes) {
        let [allocated, freed] = [&self.counts.large_allocated, &self.counts.large_freed];
        (Bytes(allocated.load(Relaxed)), Bytes(freed.load(Relaxed)))
    }

    pub(crate) fn passed(&self, level: Level) -> usize {
        self.counts.levels[level as usize].load(Relaxed)
    }

    /// How often the heap has grown.
    pub(crate) fn growths(&self) -> usize {
        self.page_heap.lock().growths
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
