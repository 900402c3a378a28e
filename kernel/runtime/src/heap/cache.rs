//! Cache: one CPU's current span of every class, from which it allocates without a lock. Go: mcache.go.
//!
//! Its owner holds safepoints off from the call until the object is where the collector looks: neither an interrupt
//! nor another CPU ever sees a cache half changed. Before a collection every cache is flushed.
//!
//! Unsafe here: zeroing slots just taken; addresses that are not 0; a section for a
//! static.
#![allow(unsafe_code)]

use super::counts::Ledger;
use super::pages::Mapping;
use super::span_list::{FullSpans, SpanList};
use super::supply::Supply;
use super::tiny::Tiny;
use super::zero::zero;
use super::{Heap, Reading, Shortage, Span, SpanClass};
use crate::addr::Bytes;
use core::mem::offset_of;
use core::ptr::NonNull;

/// Of every class before its first refill. It has no slots, so allocating from it fails like from any full span.
#[unsafe(link_section = ".data.runtime")]
pub(crate) static EMPTY: Span = Span::empty();

pub(crate) struct Cache {
    /// One entry per value of a byte, so that no class needs a bounds check.
    current: [&'static Span; 256],
    /// Of each class the spans that were here and are full, until the next flush.
    full: [FullSpans; 256],
    /// By [`Mapping`].
    pub(super) supplies: [Supply; 2],
    pub(super) ledger: Ledger,
    pub(super) tiny: Tiny,
}

impl Cache {
    pub(crate) const fn new() -> Cache {
        Cache {
            current: [&EMPTY; 256],
            full: [const { FullSpans::new() }; 256],
            supplies: [Supply::new(Mapping::Huge), Supply::new(Mapping::Small)],
            ledger: Ledger::new(),
            tiny: Tiny::new(),
        }
    }

    /// Where the current span of a class is, counted from the cache's start.
    pub(crate) const fn place_of(class: SpanClass) -> usize {
        offset_of!(Cache, current) + class.index() as usize * size_of::<&Span>()
    }

    /// The current span of a class. Whose class is a constant need not ask the cache
    /// ([`SafepointsHeld::current_span`](crate::cpu::SafepointsHeld::current_span)).
    #[inline(always)]
    pub(crate) fn current(&self, class: SpanClass) -> &'static Span {
        self.current[class.index() as usize]
    }

    /// A noscan object of so many bytes, fewer than [`BLOCK`](super::BLOCK), that shares its slot with those before it. `None`: it is to
    /// have a new slot, with [`share`](Cache::share).
    #[inline(always)]
    pub(crate) fn allocate_tiny(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let place = self.tiny.take(bytes)?;
        // SAFETY: the first byte of a block is never taken here.
        Some(unsafe { in_one_word(place) })
    }

    /// A slot whose first object is of so many bytes will be shared with the next ones.
    #[inline(always)]
    pub(crate) fn share(&mut self, slot: NonNull<u8>, bytes: usize) {
        self.tiny.begin(slot.addr().get(), bytes);
    }

    /// How many objects have shared a slot with one before them since the last flush.
    pub(crate) fn combined(&self) -> usize {
        self.tiny.combined()
    }

    /// Replaces the class's full span by one with free slots. Takes locks, one after the other, and sweeps what must be
    /// for it. `zeroed`: who asks wants a slot of zeroes.
    ///
    /// # Errors
    /// As [`Heap::take_span`]; the cache is as before.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill(
        &mut self,
        heap: &Heap,
        class: SpanClass,
        zeroed: bool,
        even_past_trigger: bool,
    ) -> Result<(), Shortage> {
        let fresh = heap.take_span(self, class, zeroed, even_past_trigger)?;
        let old = core::mem::replace(&mut self.current[class.index() as usize], fresh);
        if !core::ptr::eq(old, &EMPTY) {
            heap.put_span(&mut self.ledger, &mut self.full[class.index() as usize], old);
        }
        Ok(())
    }

    /// The spans in this cache, and where.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, &'static Span)> {
        self.current.iter().copied().enumerate().filter(|(_, span)| !core::ptr::eq(*span, &EMPTY))
    }

    /// The full spans here, by class.
    pub(super) fn full_spans(&self) -> impl Iterator<Item = (usize, &SpanList)> {
        self.full.iter().map(FullSpans::list).enumerate()
    }

    /// How many slots of this class are free here.
    pub(super) fn free_slots(&self, class: SpanClass) -> usize {
        self.current[class.index() as usize].free_slots()
    }

    /// Gives all spans and pages back, for the collector to see the heap as it is, or because the CPU stops.
    pub(crate) fn flush(&mut self, heap: &Heap) {
        for (current, full) in self.current.iter_mut().zip(&mut self.full) {
            let span = core::mem::replace(current, &EMPTY);
            if !core::ptr::eq(span, &EMPTY) {
                heap.put_span(&mut self.ledger, full, span);
                heap.central(span.class()).put_full(heap.generation(), full);
            }
        }
        heap.drain(&mut self.supplies);
        heap.enter(&mut self.ledger);
        self.tiny.flush(heap);
    }
}

/// What a CPU does with a span in its cache.
impl Span {
    /// A slot, its contents unspecified: for [`Kind::Noscan`](super::Kind). `None`: refill, then again. 10 instructions.
    ///
    /// `slot_bytes` is the span's, and spares a multiplication and more if it is a constant.
    #[inline(always)]
    pub(crate) fn allocate(&self, slot_bytes: Bytes) -> Option<NonNull<u8>> {
        let slot = self.take_slot()?;
        Some(self.slot_address(slot, slot_bytes))
    }

    /// [`allocate`](Span::allocate), without a look beyond the window.
    #[inline(always)]
    pub(crate) fn allocate_in_window(&self) -> Option<NonNull<u8>> {
        let slot = self.take_slot_in_window()?;
        Some(self.slot_address(slot, self.slot_bytes()))
    }

    /// [`allocate`](Span::allocate), and the whole slot is zero. For [`Kind::Ambiguous`](super::Kind): a stale word would keep
    /// garbage alive.
    #[inline(always)]
    pub(crate) fn allocate_zeroed(&self, class: SpanClass) -> Option<NonNull<u8>> {
        let slot_bytes = Bytes(class.slot_bytes());
        let object = self.allocate(slot_bytes)?;
        if self.needs_zero() {
            // SAFETY: the slot was just taken: all its bytes are the caller's, and slots are multiples of 8 at
            // multiples of 8.
            unsafe { zero(object, slot_bytes) };
        }
        Some(object)
    }

    /// [`allocate`](Span::allocate) in a class of [`Kind::Precise`](super::Kind); bit n of `mask` says that word n may hold a
    /// reference. The caller initialises every such word before it lets safepoints in. `sure`: it will hold a reference
    /// or null, nothing else.
    #[inline(always)]
    pub(crate) fn allocate_precise(&self, class: SpanClass, mask: u64, sure: bool) -> Option<NonNull<u8>> {
        assert!(class.has_masks(), "only precise spans have a map");
        let slot = self.take_slot()?;
        self.write_pointer_mask(class, slot, mask);
        if !sure {
            self.set_unsure();
        }
        Some(self.slot_address(slot, Bytes(class.slot_bytes())))
    }

    /// [`allocate_precise`](Span::allocate_precise) of what is read by a pattern, in a class with masks or without.
    #[inline(always)]
    pub(crate) fn allocate_patterned(&self, class: SpanClass, reading: Reading) -> Option<NonNull<u8>> {
        if class.has_masks() {
            return self.allocate_precise(class, reading.pattern.mask(class.slot_bytes() / 8), reading.sure);
        }
        let slot = self.take_slot()?;
        self.write_reading(slot, reading);
        Some(self.slot_address(slot, Bytes(class.slot_bytes())))
    }

    #[inline(always)]
    fn slot_address(&self, slot: u32, slot_bytes: Bytes) -> NonNull<u8> {
        let address = self.own_base().0.wrapping_add((slot as usize).wrapping_mul(slot_bytes.0));
        // SAFETY: no span begins at 0 but the empty one, which has no slot to give.
        unsafe { in_one_word(address) }
    }
}

/// A new object's address. Left to itself the compiler keeps base and offset in two registers as long as it can, and a collection at the
/// section's end would find the object in neither.
///
/// # Safety
/// It is not 0.
#[inline(always)]
unsafe fn in_one_word(mut address: usize) -> NonNull<u8> {
    // SAFETY: no instruction at all. Not `pure`, which might be moved behind the section's end.
    #[cfg(not(miri))]
    unsafe {
        core::arch::asm!("/* {} */", inout(reg) address, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the caller's promise.
    unsafe { NonNull::new_unchecked(core::ptr::with_exposed_provenance_mut(address)) }
}

#[cfg(test)]
impl Cache {
    /// For corruption.rs: the place of a class, and what is there.
    pub(super) fn entry(&self, class: SpanClass) -> *const usize {
        (&raw const self.current[class.index() as usize]).cast()
    }

    pub(super) fn allocate(&mut self, class: SpanClass) -> Option<NonNull<u8>> {
        self.current(class).allocate(Bytes(class.slot_bytes()))
    }

    pub(super) fn allocate_zeroed(&mut self, class: SpanClass) -> Option<NonNull<u8>> {
        self.current(class).allocate_zeroed(class)
    }

    pub(super) fn allocate_precise(&mut self, class: SpanClass, mask: u64, sure: bool) -> Option<NonNull<u8>> {
        self.current(class).allocate_precise(class, mask, sure)
    }
}
