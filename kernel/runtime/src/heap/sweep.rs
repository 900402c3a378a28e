//! Sweeping: what the marks say becomes what is allocated. Go: mgcsweep.go, `cacheSpan` in mcentral.go, `reclaim` in mheap.go.
//!
//! The stop ends when all is marked; the spans are swept one by one while the program runs. A *generation* says which of them have been:
//! a span with the heap's own number has, one with the number before has not. Marking ends by counting it up, so that in one instant every
//! span is unswept, and every list of swept spans a list of unswept ones (`central.rs`). Until it is swept, a span's allocation bits say
//! what was allocated before the cycle, and its marks which of that is alive. Who sweeps:
//!
//! 1. A CPU without a span of some class: it takes one that has room once it is swept ([`Heap::take_partial`]).
//! 2. Who needs fresh pages: first until as many have come back, or a hundred times as many spans did not help ([`Heap::reclaim`]).
//! 3. Every refill and large object: as large a part of what is left as they take of what may be allocated before the next cycle, which
//!    therefore finds all swept ([`Heap::sweep_share`]).
//! 4. A CPU with no thread to run, and `collect()`, which returns when all is swept ([`Heap::sweep_some`]).
//! 5. Who begins the next cycle: it needs clear marks.
//!
//! A span is swept within one section, by who took it out of its list: no stop sees it half swept.

use super::span::Object;
use super::{Heap, Span, SpanClass};
use crate::addr::{Bytes, PAGE, Pages};
use crate::switch_off::{self, Mechanism};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// How many spans are swept in search of room, or of one page. Go: `spanBudget`.
const SEARCHED: usize = 100;
/// How many are swept between two safepoints where there is no hurry.
const PORTION: usize = 64;

pub(super) struct Sweep {
    /// Wraps around: there are only this one and the one before.
    pub(super) generation: AtomicU8,
    /// The pages of the unswept spans. 0: the sweep is over.
    pub(super) unswept: AtomicUsize,
    /// The classes before this one ([`SpanClass::by_size`]) have no unswept span.
    pub(super) next_class: AtomicUsize,
}

impl Sweep {
    pub(super) const fn new() -> Sweep {
        Sweep { generation: AtomicU8::new(0), unswept: AtomicUsize::new(0), next_class: AtomicUsize::new(0) }
    }
}

impl Heap {
    /// After marking: what is not marked is garbage from now on, and every span is to be swept. [`live`](Heap::live) starts anew from what is
    /// marked. Returns how much was found dead. O(1).
    ///
    /// For a stopped world whose caches have been flushed; everything was swept before it was marked.
    pub(crate) fn begin_sweep(&self, marked: Bytes) -> Bytes {
        self.sweep.next_class.store(0, Relaxed);
        self.sweep.unswept.store(self.map.owned().0, Relaxed);
        self.sweep.generation.store(self.generation().wrapping_add(1), Relaxed);
        Bytes(self.live.swap(marked.0, Relaxed) - marked.0)
    }

    /// Sweeps everything that is left.
    pub(crate) fn sweep_all(&self) {
        while self.sweep_some() {}
    }

    /// Sweeps some spans more; `false` if there were none. Takes locks for each, never two.
    pub(crate) fn sweep_some(&self) -> bool {
        (0..PORTION).take_while(|_| self.sweep_one().is_some()).count() > 0
    }

    /// Whether the slot has an object that the last marking found alive, or that was allocated since.
    pub(crate) fn is_alive(&self, object: Object) -> bool {
        object.is_allocated() && (object.span.is_swept(self.generation()) || object.is_marked())
    }

    /// Forgets all marks, of a cycle that is given up before it begins to sweep.
    pub(crate) fn clear_marks(&self) {
        self.spans().for_each(Span::clear_marks);
    }

    pub(super) fn generation(&self) -> u8 {
        self.sweep.generation.load(Relaxed)
    }

    pub(super) fn unswept(&self) -> Pages {
        Pages(self.sweep.unswept.load(Relaxed))
    }

    /// A span of this class with free slots, in no list any more; the next unswept ones are looked at, if need be.
    pub(super) fn take_partial(&self, class: SpanClass) -> Option<&'static Span> {
        let (central, generation) = (self.central(class), self.generation());
        let swept = central.take_partial(generation);
        if swept.is_some() || self.unswept() == Pages(0) || switch_off::is_off(Mechanism::SweepForRoom) {
            return swept;
        }
        let before = generation.wrapping_sub(1);
        if let Some(span) = central.take_partial(before) {
            self.sweep(span);
            return Some(span);
        }
        for _ in 0..SEARCHED {
            let span = central.take_full(before)?;
            self.sweep(span);
            if span.has_room() {
                return Some(span);
            }
            central.put(span);
        }
        None
    }

    /// Before so many pages are allocated: sweeps as large a part of what is unswept as they are of what may be allocated before the trigger.
    pub(super) fn sweep_share(&self, pages: Pages) {
        let Pages(unswept) = self.unswept();
        if unswept == 0 || switch_off::is_off(Mechanism::SweepForRoom) {
            return;
        }
        let left = (self.trigger().0.saturating_sub(self.live().0) / PAGE.0).max(1);
        let mut share = unswept.saturating_mul(pages.0.min(left)).div_ceil(left);
        while share > 0
            && let Some((swept, _)) = self.sweep_one()
        {
            share = share.saturating_sub(swept.0);
        }
    }

    /// Before so many fresh pages are taken: sweeps until as many have come back, but not for ever.
    pub(super) fn reclaim(&self, pages: Pages) {
        if self.unswept() == Pages(0) || switch_off::is_off(Mechanism::SweepForRoom) {
            return;
        }
        let (mut missing, mut looks) = (pages.0, SEARCHED.saturating_mul(pages.0));
        while missing > 0
            && looks > 0
            && let Some((swept, came_back)) = self.sweep_one()
        {
            looks -= 1;
            missing = missing.saturating_sub(if came_back { swept.0 } else { 0 });
        }
    }

    /// Sweeps the next span, whichever that is. Says how many pages it had, and whether they came back.
    fn sweep_one(&self) -> Option<(Pages, bool)> {
        let span = self.take_unswept()?;
        let pages = span.pages();
        let is_in_use = self.sweep(span);
        if is_in_use {
            self.central(span.class()).put(span);
        } else {
            self.page_heap.lock().free(&self.map, span);
        }
        Some((pages, !is_in_use))
    }

    /// Any unswept span, in no list any more.
    fn take_unswept(&self) -> Option<&'static Span> {
        if self.unswept() == Pages(0) {
            return None;
        }
        let before = self.generation().wrapping_sub(1);
        loop {
            let nth = self.sweep.next_class.load(Relaxed);
            let class = SpanClass::by_size(nth)?;
            if let Some(span) = self.centrals[class.index() as usize].take(before) {
                return Some(span);
            }
            self.sweep.next_class.fetch_max(nth + 1, Relaxed);
        }
    }

    /// Frees every object of an unswept span that is not marked. `false`: there are no others. The caller has taken the span out of its list.
    fn sweep(&self, span: &'static Span) -> bool {
        if self.clobbers() {
            span.clobber_unmarked();
        }
        let swept = span.sweep();
        span.set_generation(self.generation());
        self.counts.freed(span, swept.freed);
        self.sweep.unswept.fetch_sub(span.pages().0, Relaxed);
        swept.is_in_use
    }
}
