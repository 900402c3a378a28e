//! Cache: one CPU's current span of every class, from which it allocates without a lock. Go: mcache.go.
//!
//! Its owner holds safepoints off from the call until the object is where the collector looks: neither an interrupt
//! nor another CPU ever sees a cache half changed. Before a collection every cache is flushed.
//!
//! Unsafe here: `free`, whose caller promises that the object is dead; zeroing slots just taken; a section for a static.
#![allow(unsafe_code)]

use super::supply::Supply;
use super::zero::zero;
use super::{Heap, Kind, Shortage, Span, SpanClass};
use crate::addr::Bytes;
use core::ptr::NonNull;

/// Of every class before its first refill. It has no slots, so allocating from it fails like from any full span.
#[unsafe(link_section = ".data.runtime")]
pub(crate) static EMPTY: Span = Span::empty();

pub(crate) struct Cache {
    /// One entry per value of a byte, so that no class needs a bounds check.
    current: [&'static Span; 256],
    pub(super) supply: Supply,
}

impl Cache {
    pub(crate) const fn new() -> Cache {
        Cache { current: [&EMPTY; 256], supply: Supply::new() }
    }

    /// A slot of this class, its contents unspecified: for [`Kind::Noscan`]. `None`: refill, then again. 14
    /// instructions.
    #[inline(always)]
    pub(crate) fn allocate(&mut self, class: SpanClass) -> Option<NonNull<u8>> {
        let span = self.current[class.index() as usize];
        slot_address(span, span.take_slot()?)
    }

    /// [`allocate`](Cache::allocate), and the whole slot is zero. For [`Kind::Ambiguous`]: a stale word would keep
    /// garbage alive.
    #[inline(always)]
    pub(crate) fn allocate_zeroed(&mut self, class: SpanClass) -> Option<NonNull<u8>> {
        let span = self.current[class.index() as usize];
        let object = slot_address(span, span.take_slot()?)?;
        if span.needs_zero() {
            // SAFETY: the slot was just taken: all its bytes are the caller's, and slots are multiples of 8 at
            // multiples of 8.
            unsafe { zero(object, Bytes(class.slot_bytes())) };
        }
        Some(object)
    }

    /// [`allocate`](Cache::allocate) in a class of [`Kind::Precise`]; bit n of `mask` says that word n may hold a
    /// reference. The caller initialises every such word before it lets safepoints in. `sure`: it will hold a reference
    /// or null, nothing else.
    #[inline(always)]
    pub(crate) fn allocate_precise(&mut self, class: SpanClass, mask: u64, sure: bool) -> Option<NonNull<u8>> {
        assert!(class.kind() == Kind::Precise, "only precise spans have a map");
        let span = self.current[class.index() as usize];
        let slot = span.take_slot()?;
        span.write_pointer_mask(class, slot, mask);
        if !sure {
            span.set_unsure();
        }
        slot_address(span, slot)
    }

    /// Replaces the class's full span by one with free slots. Takes up to two locks.
    ///
    /// # Errors
    /// As [`Heap::take_span`]; the cache is as before.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill(&mut self, heap: &Heap, class: SpanClass, even_past_trigger: bool) -> Result<(), Shortage> {
        let fresh = heap.take_span(&mut self.supply, class, even_past_trigger)?;
        let old = core::mem::replace(&mut self.current[class.index() as usize], fresh);
        if !core::ptr::eq(old, &EMPTY) {
            heap.put_span(old);
        }
        Ok(())
    }

    /// Makes the slot of a dead object free for the next allocation on this CPU, if its span is cached here.
    /// Otherwise does nothing: the next sweep finds it. `class` is the one it was allocated in.
    ///
    /// # Safety
    /// The object was allocated in this class from the heap that this cache refills from, is not used any more, and no
    /// collection is marking or sweeping.
    #[inline]
    pub(crate) unsafe fn free(&mut self, class: SpanClass, object: NonNull<u8>) {
        let span = self.current[class.index() as usize];
        let offset = object.addr().get().wrapping_sub(span.base().0);
        if offset < span.pages().bytes().0 {
            span.release_slot(span.slot_at(offset));
        }
    }

    /// The spans in this cache, and where.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, &'static Span)> {
        self.current.iter().copied().enumerate().filter(|(_, span)| !core::ptr::eq(*span, &EMPTY))
    }

    /// Gives all spans and pages back, for the collector to see the heap as it is, or because the CPU stops.
    pub(crate) fn flush(&mut self, heap: &Heap) {
        for entry in &mut self.current {
            let span = core::mem::replace(entry, &EMPTY);
            if !core::ptr::eq(span, &EMPTY) {
                heap.put_span(span);
            }
        }
        heap.drain(&mut self.supply);
    }
}

#[inline(always)]
fn slot_address(span: &Span, slot: u32) -> Option<NonNull<u8>> {
    NonNull::new(core::ptr::with_exposed_provenance_mut(span.slot_base(slot).0))
}

#[cfg(test)]
impl Cache {
    /// For corruption.rs: the place of a class, and what is there.
    pub(super) fn entry(&self, class: SpanClass) -> *const usize {
        (&raw const self.current[class.index() as usize]).cast()
    }

    pub(super) fn current_span(&self, class: SpanClass) -> &'static Span {
        self.current[class.index() as usize]
    }
}
