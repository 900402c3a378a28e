//! Objects too large for any slot: each has a span of its own. Go: mallocgcLarge in malloc.go, allocLarge in mcache.go.
//!
//! Unsafe here: `free_large`, whose caller promises that the object is dead, and zeroing what is left over in a new
//! span.
#![allow(unsafe_code)]

use super::span::State;
use super::{Cache, Heap, Kind, Shortage, SpanClass, zero};
use crate::addr::{Bytes, Pages};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

impl Heap {
    /// An object of its own span, at a multiple of `align` (a power of two, at most an arena). Takes the page heap's
    /// lock, unless it is short and this CPU has the pages.
    ///
    /// Not zeroed: an ambiguous object's `bytes` are the caller's to [`zero`], with safepoints let in between if it
    /// is long. (The stale words that a collection may meanwhile see keep garbage for one cycle, no more.) What is
    /// left over in the last page is zeroed here, since the collector reads the whole span.
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
        self.may_allocate(even_past_trigger)?;
        // There is no precise span of this size.
        let kind = if kind == Kind::Precise { Kind::Ambiguous } else { kind };
        let class = SpanClass::large(kind);
        let pages = Pages::holding(Bytes(bytes.0.max(1)));
        let align = Pages::holding(Bytes(align));
        let span = self.allocate_span(&mut cache.supply, class, pages, align)?;
        span.set_state(State::Large);
        self.live.fetch_add(pages.bytes().0, Relaxed);
        let base = core::ptr::with_exposed_provenance_mut::<u8>(span.base().0);
        let object = NonNull::new(base).expect("no arena starts at 0");
        if kind == Kind::Ambiguous {
            let used = bytes.0.next_multiple_of(8);
            // SAFETY: `used` is at most the span's length, and the span is new: all its bytes are ours.
            unsafe { zero(object.add(used), Bytes(pages.bytes().0 - used)) };
        }
        Ok(object)
    }

    /// Gives the pages of a large object back at once. Takes the page heap's lock.
    ///
    /// # Safety
    /// The object is from [`allocate_large`](Heap::allocate_large), is not used any more, and no collection is
    /// marking or sweeping.
    pub(crate) unsafe fn free_large(&self, object: NonNull<u8>) {
        let span = self.map.owner(object.addr().get()).expect("an object that was allocated has a span");
        assert!(span.state() == State::Large, "only large objects have a span of their own");
        self.live.fetch_sub(span.pages().bytes().0, Relaxed);
        self.page_heap.lock().free(&self.map, span);
    }
}
