//! Objects too large for any slot: each has a span of its own. Go: mallocgcLarge in malloc.go, allocLarge in mcache.go.
//!
//! Unsafe here: `free_large`, whose caller promises that the object is dead, and zeroing new ones.
#![allow(unsafe_code)]

use super::span::State;
use super::zero::zero_pages;
use super::{Cache, Heap, Kind, Reading, Shortage, Span, SpanClass};
use crate::addr::{Bytes, Pages};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

impl Heap {
    /// An object of its own span, at a multiple of `align` (a power of two, at most an arena). Takes its class's lock, and the page
    /// heap's, unless it is short and this CPU has the pages.
    ///
    /// Not zeroed unless it is known to be zero; a precise one is noscan until [`read_large`](Heap::read_large), an
    /// ambiguous one unless it is known to be zero.
    ///
    /// # Errors
    /// As [`Cache::refill`](super::Cache::refill).
    pub(crate) fn allocate_large(
        &self,
        cache: &mut Cache,
        bytes: Bytes,
        align: usize,
        kind: Kind,
        even_past_trigger: bool,
    ) -> Result<NonNull<u8>, Shortage> {
        self.may_allocate(&cache.ledger, even_past_trigger)?;
        let pages = Pages::holding(Bytes(bytes.0.max(1)));
        let align = Pages::holding(Bytes(align));
        let span = self.allocate_span(cache, SpanClass::large(Kind::Noscan), pages, align, kind)?;
        if kind == Kind::Ambiguous && !span.needs_zero() {
            span.set_class(SpanClass::large(kind));
        }
        span.set_state(State::Large);
        self.central(span.class()).put([span]);
        self.live.fetch_add(pages.bytes().0, Relaxed);
        self.counts.large_allocated(span);
        let base = core::ptr::with_exposed_provenance_mut::<u8>(span.base().0);
        Ok(NonNull::new(base).expect("no arena starts at 0"))
    }

    /// Zeroes a new large object to the end of its last page, unless it is known to be zero. Not for a section: this
    /// may take long, and whoever comes meanwhile finds an object that refers to nothing. Go:
    /// memclrNoHeapPointersChunked.
    ///
    /// # Safety
    /// The object is from [`allocate_large`](Heap::allocate_large), and nobody has used it yet.
    pub(crate) unsafe fn zero_large(&self, object: NonNull<u8>) {
        let span = self.owner_of(object);
        if span.needs_zero() {
            // SAFETY: all pages of the span are the new object's.
            unsafe { zero_pages(object, span.pages().bytes()) };
        }
    }

    /// From now on a large object that [has been zeroed](Heap::zero_large) is read as is said.
    pub(crate) fn read_large(&self, object: NonNull<u8>, reading: Reading) {
        let span = self.owner_of(object);
        if reading.kind == Kind::Precise {
            span.write_reading(0, reading);
        }
        let class = SpanClass::large(reading.kind);
        if class != span.class() {
            self.counts.given_up(span.class(), 1);
            self.counts.taken(class, 1);
            span.set_class(class);
        }
    }

    fn owner_of(&self, object: NonNull<u8>) -> &'static Span {
        self.map.owner(object.addr().get()).expect("an object that was allocated has a span")
    }

    /// Gives the pages of a large object back at once. Takes its class's lock, then the page heap's.
    ///
    /// # Safety
    /// The object is from [`allocate_large`](Heap::allocate_large), is not used any more, and no collection is
    /// marking.
    pub(crate) unsafe fn free_large(&self, object: NonNull<u8>) {
        let span = self.owner_of(object);
        assert!(span.state() == State::Large, "only large objects have a span of their own");
        self.central(span.class()).remove_large(span);
        if !span.is_swept(self.generation()) {
            assert!(span.is_marked(0), "an object that its owner frees was reachable");
            self.sweep.unswept.fetch_sub(span.pages().0, Relaxed);
        }
        self.live.fetch_sub(span.pages().bytes().0, Relaxed);
        self.counts.freed(span.class(), 1, span.pages());
        self.page_heap.lock().free(&self.map, [span]);
    }
}
