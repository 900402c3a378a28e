//! Sweeping: what the marks say becomes what is allocated. Go: mgcsweep.go, `cacheSpan` in mcentral.go, `reclaim` in mheap.go.
//!
//! The stop ends when all is marked; the spans are swept one by one while the program runs. A *generation* says which of them have been:
//! a span with the heap's own number has, one with the number before has not. Marking ends by counting it up, so that in one instant every
//! span is unswept, and every list of swept spans a list of unswept ones (`central.rs`). Until it is swept, a span's allocation bits say
//! what was allocated before the cycle, and its marks which of that is alive. Who sweeps:
//!
//! 1. A CPU without a span of some class: it takes one that has room once it is swept ([`Heap::take_partial`]); before
//!    that, as large a part of what is left as the span is of what may be allocated before the next cycle, which so
//!    finds all swept ([`Heap::sweep_share`]).
//! 2. If there is none with room, who needs fresh pages: first a portion, of which some may come back.
//! 3. Who needs a large object: its share, too, and more until as many pages have come back as it takes, or a hundred times as many spans
//!    did not help ([`Debt`]).
//! 4. A CPU with no thread to run, and `collect()`, which returns when all is swept ([`Heap::sweep_some`]).
//! 5. Who begins the next cycle: it needs clear marks.
//!
//! Spans are swept in portions, each of neighbours in one list: lists, counts and the page heap are changed once for
//! all of them. A portion is swept within one section, by who took it out of its list: no stop sees a span half swept.
//! No section sweeps more than a few: who has to sweep more lets safepoints in after each. A span without a mark is not
//! even written to: its record is made anew at its next use.

use super::counts::Ledger;
use super::span::Object;
use super::span_list::SpanList;
use super::{Heap, Span, SpanClass};
use crate::addr::{Bytes, PAGE, Pages};
use crate::switch_off::{self, Mechanism};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// How many spans are swept in search of room, or of one page. Go: `spanBudget`.
const SEARCHED: usize = 100;
/// How many are swept together: some 5 µs, 20 if they have a thousand slots each.
const PORTION: usize = 64;

pub(super) struct Sweep {
    /// Wraps around: there are only this one and the one before.
    pub(super) generation: AtomicU8,
    /// The pages of the unswept spans. 0: the sweep is over.
    pub(super) unswept: AtomicUsize,
    /// The classes before this one ([`SpanClass::by_size`]) have no unswept span.
    pub(super) next_class: AtomicUsize,
}

/// What whoever needs a large object has to sweep before it takes pages. Go: `deductSweepCredit`, `reclaim`.
pub(crate) struct Debt {
    /// So many pages are to be swept,
    share: usize,
    /// and so many are to come back,
    missing: usize,
    /// unless so many spans have been swept meanwhile.
    looks: usize,
}

#[derive(Default)]
struct Swept {
    spans: usize,
    pages: usize,
    /// Of those, the ones of spans without a mark.
    free_pages: usize,
}

impl Sweep {
    pub(super) const fn new() -> Sweep {
        Sweep { generation: AtomicU8::new(0), unswept: AtomicUsize::new(0), next_class: AtomicUsize::new(0) }
    }
}

impl Heap {
    /// After marking: what is not marked is garbage from now on, and every span is to be swept. [`live`](Heap::live)
    /// starts anew from what is marked. O(1).
    ///
    /// For a stopped world whose caches have been flushed; everything was swept before it was marked.
    pub(crate) fn begin_sweep(&self, marked: Bytes) {
        self.sweep.next_class.store(0, Relaxed);
        self.sweep.unswept.store(self.map.owned().0, Relaxed);
        self.sweep.generation.store(self.generation().wrapping_add(1), Relaxed);
        self.live.store(marked.0, Relaxed);
    }

    /// Sweeps everything that is left.
    pub(crate) fn sweep_all(&self) {
        while self.sweep_some() {}
    }

    /// Sweeps a portion more; `false` if there was nothing. Takes locks, never two.
    pub(crate) fn sweep_some(&self) -> bool {
        self.sweep_portion(PORTION).is_some()
    }

    /// The debt of whoever is going to allocate a large object of so many pages, if anything is unswept.
    pub(crate) fn sweep_debt(&self, pages: Pages) -> Option<Debt> {
        let looks = SEARCHED.saturating_mul(pages.0);
        (!self.is_swept()).then(|| Debt { share: self.share(self.live_with([]), pages), missing: pages.0, looks })
    }

    /// Sweeps a portion of it; `false`: it is paid, or there is nothing to sweep.
    pub(crate) fn pay(&self, debt: &mut Debt) -> bool {
        if debt.share == 0 && (debt.missing == 0 || debt.looks == 0) {
            return false;
        }
        let Some(swept) = self.sweep_portion(PORTION) else { return false };
        debt.share = debt.share.saturating_sub(swept.pages);
        debt.missing = debt.missing.saturating_sub(swept.free_pages);
        debt.looks = debt.looks.saturating_sub(swept.spans);
        true
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

    /// Nothing is to be swept, or not for those who only want room.
    fn is_swept(&self) -> bool {
        self.unswept() == Pages(0) || switch_off::is_off(Mechanism::SweepForRoom)
    }

    /// A span of this class with free slots, in no list any more; the next unswept ones are looked at, if need be.
    pub(super) fn take_partial(&self, class: SpanClass) -> Option<&'static Span> {
        let (central, generation) = (self.central(class), self.generation());
        let swept = central.take_partial(generation);
        if swept.is_some() || self.is_swept() {
            return swept;
        }
        let before = generation.wrapping_sub(1);
        if let Some(span) = central.take_partial(before) {
            self.sweep_one(span);
            return Some(span);
        }
        for _ in 0..SEARCHED {
            let span = central.take_full(before)?;
            self.sweep_one(span);
            if span.has_room() {
                return Some(span);
            }
            central.put([span]);
        }
        None
    }

    /// As many of the unswept pages as so many pages are of what may be allocated before the trigger.
    fn share(&self, live: Bytes, pages: Pages) -> usize {
        let left = (self.trigger().0.saturating_sub(live.0) / PAGE.0).max(1);
        self.unswept().0.saturating_mul(pages.0.min(left)).div_ceil(left)
    }

    /// Before so many pages are allocated: sweeps the share of what is unswept that falls to them, a portion at most. If it was more, the
    /// next shares are larger.
    pub(super) fn sweep_share(&self, ledger: &Ledger, pages: Pages) {
        if !self.is_swept() {
            self.sweep_portion(self.share(self.live_with([ledger]), pages).min(PORTION));
        }
    }

    /// Before fresh pages are taken: some may come back.
    pub(super) fn reclaim(&self) {
        if !self.is_swept() {
            self.sweep_portion(PORTION);
        }
    }

    /// Sweeps the next spans of a class, whichever these are, at most so many. `None`: nothing is unswept.
    fn sweep_portion(&self, most: usize) -> Option<Swept> {
        let unswept = self.take_unswept(most)?;
        let class = unswept.first()?.class();
        let (mut in_use, mut empty) = (SpanList::new(), SpanList::new());
        let (mut swept, mut freed) = (Swept::default(), 0);
        for span in unswept {
            swept.spans += 1;
            swept.pages += span.pages().0;
            self.clobber(span);
            match span.count_dead() {
                Some(dead) => {
                    freed += dead;
                    swept.free_pages += span.pages().0;
                    empty.push(span);
                }
                None => {
                    freed += span.sweep(self.generation());
                    in_use.push(span);
                }
            }
        }
        if !in_use.is_empty() {
            self.central(class).put(in_use);
        }
        if !empty.is_empty() {
            self.page_heap.lock().free(&self.map, empty);
        }
        self.note_swept(class, Pages(swept.pages), freed);
        Some(swept)
    }

    /// Some unswept spans, in no list any more: small ones of one class, or a large one.
    fn take_unswept(&self, most: usize) -> Option<SpanList> {
        if self.unswept() == Pages(0) {
            return None;
        }
        let before = self.generation().wrapping_sub(1);
        let mut nth = self.sweep.next_class.load(Relaxed);
        loop {
            let class = SpanClass::by_size(nth)?;
            let most = if class.is_large() { 1 } else { most };
            let spans = self.centrals[class.index() as usize].take(before, most);
            if !spans.is_empty() {
                self.sweep.next_class.fetch_max(nth, Relaxed);
                return Some(spans);
            }
            nth += 1;
        }
    }

    /// Sweeps a small span that the caller has taken out of its list.
    fn sweep_one(&self, span: &'static Span) {
        self.clobber(span);
        let freed = span.sweep(self.generation());
        self.note_swept(span.class(), span.pages(), freed);
    }

    #[inline(always)]
    fn clobber(&self, span: &'static Span) {
        if self.clobbers() {
            span.clobber_unmarked();
        }
    }

    fn note_swept(&self, class: SpanClass, pages: Pages, freed: usize) {
        self.counts.freed(class, freed, pages);
        self.sweep.unswept.fetch_sub(pages.0, Relaxed);
    }
}
