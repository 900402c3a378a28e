//! Span: a run of pages cut into slots of one size, or holding one large object; and Object, a slot that an address
//! led to.
//! Go: mspan in mheap.go, mbitmap.go.
//!
//! ```text
//! base                                                                          base + pages
//!  | slot 0 | slot 1 | slot 2 | …            | slot n-1 | left over | pointer map (precise, up to 512 bytes) |
//!  bits[0].allocated = …0101    bits[0].marked = …0001
//! ```
//!
//! Records come from a [`FixedPool`](super::FixedPool) and never go away, so a stale reference reads numbers that are
//! old or belong to the record's next use, never freed memory. That is why every field is an atomic; all are plain
//! loads and stores on x86. Who may write them: the geometry, who holds the page heap's lock while the span is in no
//! table; the allocation bits, the CPU that has the span in its cache, or whoever sweeps it; the marks, the collector, and whoever sweeps.

use super::marks::Slot;
use super::size_class::MOST_SLOTS;
use super::span_class::{Kind, References, SpanClass};
use crate::addr::{Address, Bytes, Pages};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release,
};

/// Where a span is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Nowhere: the record is in its pool.
    Free,
    /// No span yet: the record is in a CPU's supply.
    Supplied,
    /// In one CPU's cache, which alone allocates from it.
    Cached,
    /// In one of its class's central lists, or among the full ones of a CPU.
    Listed,
    /// It holds one large object, and is in one of those, too.
    Large,
    /// So it does, but not all of its pages have memory yet.
    Bare,
}

/// Bits of 64 neighbouring slots, side by side and so mostly in one cache line. Bits past the last slot are
/// set in `allocated` and clear in `marked`.
pub(super) struct Bits {
    pub(super) allocated: AtomicU64,
    pub(super) marked: AtomicU64,
}

#[repr(C)]
pub(crate) struct Span {
    pub(super) bits: [Bits; MOST_SLOTS / 64],
    // What follows is one cache line, all that the marker reads of a span beside the bits. The allocation window, see `window.rs`.
    pub(super) window: AtomicU64,
    pub(super) window_start: AtomicU32,
    slots: AtomicU32,
    slot_bytes: AtomicUsize,
    pub(super) base: AtomicUsize,
    reciprocal: AtomicU32,
    pages: AtomicU32,
    /// The next span of its list.
    pub(super) next: AtomicPtr<Span>,
    class: AtomicU8,
    state: AtomicU8,
    /// Precise: every type allocated here is [`SURE`](crate::Trace::SURE).
    is_sure: AtomicBool,
    /// Not every byte of every free slot is known to be zero.
    needs_zero: AtomicBool,
    /// How many of its free slots have become so by hand since it was swept or in a cache, see `free.rs`.
    freed: AtomicU16,
    /// In which cycle it was last swept, see `sweep.rs`.
    generation: AtomicU8,
}

const _: () = assert!(size_of::<Span>() <= 5 * 64, "a record fills five cache lines");

impl Span {
    /// A span without slots. In a cache it stands for "none yet", which spares every allocation a comparison.
    pub(crate) const fn empty() -> Span {
        Span {
            window: AtomicU64::new(0),
            window_start: AtomicU32::new(MOST_SLOTS as u32),
            slots: AtomicU32::new(0),
            slot_bytes: AtomicUsize::new(0),
            base: AtomicUsize::new(0),
            reciprocal: AtomicU32::new(0),
            pages: AtomicU32::new(0),
            next: AtomicPtr::new(core::ptr::null_mut()),
            class: AtomicU8::new(0),
            state: AtomicU8::new(State::Free as u8),
            is_sure: AtomicBool::new(true),
            needs_zero: AtomicBool::new(true),
            freed: AtomicU16::new(0),
            generation: AtomicU8::new(0),
            bits: [const { Bits { allocated: AtomicU64::new(u64::MAX), marked: AtomicU64::new(0) } }; MOST_SLOTS / 64],
        }
    }

    /// Makes a record from the pool the span of these pages, all slots free, or the one slot of a large object
    /// allocated.
    pub(super) fn open(&self, class: SpanClass, base: Address, pages: Pages) {
        let slot_bytes = if class.is_large() { pages.bytes().0 } else { class.slot_bytes() };
        self.base.store(base.0, Relaxed);
        self.pages.store(u32::try_from(pages.0).expect("the heap has fewer than 2^32 pages"), Relaxed);
        self.slots.store(class.slots() as u32, Relaxed);
        self.slot_bytes.store(slot_bytes, Relaxed);
        self.reciprocal.store(class.reciprocal(), Relaxed);
        self.class.store(class.index(), Relaxed);
        self.is_sure.store(true, Relaxed);
        self.freed.store(0, Relaxed);
        for bits in self.words() {
            bits.allocated.store(0, Relaxed);
            bits.marked.store(0, Relaxed);
        }
        self.fill_beyond();
        if class.is_large() {
            self.bits[0].allocated.store(u64::MAX, Relaxed);
            self.clear_pattern();
        }
    }

    /// For a large object: what the collector looks for in it.
    pub(super) fn set_class(&self, class: SpanClass) {
        self.class.store(class.index(), Release);
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Free,
            1 => State::Supplied,
            2 => State::Cached,
            3 => State::Listed,
            4 => State::Large,
            _ => State::Bare,
        }
    }

    /// Whether it holds one large object.
    pub(super) fn is_large(&self) -> bool {
        self.raw_state() >= State::Large as u8
    }

    /// Whether it has pages.
    pub(super) fn is_open(&self) -> bool {
        self.raw_state() > State::Supplied as u8
    }

    /// Whether every word that a mask names is null or a live reference.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_sure.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn set_unsure(&self) {
        self.is_sure.store(false, Relaxed);
    }

    /// Whether who wants a zeroed slot has to zero it.
    #[inline(always)]
    pub(crate) fn needs_zero(&self) -> bool {
        self.needs_zero.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn set_needs_zero(&self, needs_zero: bool) {
        self.needs_zero.store(needs_zero, Relaxed);
    }

    pub(super) fn freed(&self) -> usize {
        self.freed.load(Relaxed).into()
    }

    pub(super) fn set_freed(&self, slots: usize) {
        self.freed.store(slots as u16, Relaxed);
    }

    pub(super) fn set_generation(&self, generation: u8) {
        self.generation.store(generation, Relaxed);
    }

    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Relaxed)
    }

    pub(super) fn is_swept(&self, generation: u8) -> bool {
        self.generation() == generation
    }

    /// Of a large span, the one before it in its list. It has one slot, so of the words of its bits all but one are to
    /// spare; its pattern has another.
    pub(super) fn previous(&self) -> *mut Span {
        core::ptr::with_exposed_provenance_mut(self.bits[2].allocated.load(Relaxed) as usize)
    }

    pub(super) fn set_previous(&self, previous: *mut Span) {
        self.bits[2].allocated.store(previous.expose_provenance() as u64, Relaxed);
    }

    pub(super) fn raw_state(&self) -> u8 {
        self.state.load(Relaxed)
    }

    pub(super) fn raw_class(&self) -> u8 {
        self.class.load(Relaxed)
    }

    pub(super) fn reciprocal(&self) -> u32 {
        self.reciprocal.load(Relaxed)
    }

    pub(crate) fn class(&self) -> SpanClass {
        SpanClass::from_index(self.class.load(Relaxed))
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> Kind {
        self.class().kind()
    }

    #[inline(always)]
    pub(crate) fn references(&self) -> References {
        self.class().references()
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> Address {
        Address(self.base.load(Relaxed))
    }

    pub(crate) fn pages(&self) -> Pages {
        Pages(self.pages.load(Relaxed) as usize)
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> u32 {
        self.slots.load(Relaxed)
    }

    /// A large object's slot is its whole span.
    #[inline(always)]
    pub(crate) fn slot_bytes(&self) -> Bytes {
        Bytes(self.slot_bytes.load(Relaxed))
    }

    #[inline(always)]
    pub(crate) fn slot_base(&self, slot: u32) -> Address {
        Address(self.base().0.wrapping_add((slot as usize).wrapping_mul(self.slot_bytes().0)))
    }

    /// The slot with the byte at `offset` from the span's base, an offset below the span's length. What is left over
    /// after the last slot gives numbers of [`slots`](Span::slots) and above.
    #[inline(always)]
    pub(super) fn slot_at(&self, offset: usize) -> u32 {
        // No product is too large: small spans are shorter than 2^17 bytes, and the reciprocal of a large one is 0.
        (offset.wrapping_mul(self.reciprocal.load(Relaxed) as usize) >> 32) as u32
    }

    /// The slot that begins at `offset`, which is as for [`slot_at`](Span::slot_at). Of a large span none.
    #[inline(always)]
    pub(super) fn slot_beginning_at(&self, offset: usize) -> Option<u32> {
        let reciprocal = self.reciprocal.load(Relaxed);
        let product = offset.wrapping_mul(reciprocal as usize);
        // The lower half is the remainder's share: less than one byte's, if there is none (same paper).
        ((product as u32) < reciprocal).then_some((product >> 32) as u32)
    }

    /// The object whose slot has this address, which is inside the span.
    #[inline(always)]
    pub(crate) fn object_at(&'static self, address: usize) -> Option<Object> {
        let base = self.base().0;
        let slot = self.slot_at(address.wrapping_sub(base));
        if slot >= self.slots() {
            return None;
        }
        let base = base.wrapping_add((slot as usize).wrapping_mul(self.slot_bytes().0));
        Some(Object { span: self, slot, base: Address(base) })
    }

    pub(crate) fn allocated(&'static self) -> impl Iterator<Item = Object> {
        self.objects().filter(|object| object.is_allocated())
    }

    pub(super) fn objects(&'static self) -> impl Iterator<Item = Object> {
        (0..self.slots()).map(move |slot| Object { span: self, slot, base: self.slot_base(slot) })
    }

    /// The words of bits that belong to a slot.
    pub(super) fn words(&self) -> &[Bits] {
        &self.bits[..self.slots().div_ceil(64) as usize]
    }

    /// The bits of word `word` that are past the last slot.
    pub(super) fn beyond(&self, word: usize) -> u64 {
        let slots = (self.slots() as usize).saturating_sub(word * 64);
        u64::MAX.checked_shl(slots as u32).unwrap_or(0)
    }

    /// Sets the allocation bits past the last slot.
    pub(super) fn fill_beyond(&self) {
        let last = self.words().len() - 1;
        let allocated = &self.bits[last].allocated;
        allocated.store(allocated.load(Relaxed) | self.beyond(last), Relaxed);
    }

    #[inline(always)]
    pub(super) fn bit(&self, slot: u32) -> (&Bits, u64) {
        // The remainder spares a bounds check, and costs nothing: it is part of the scaling.
        (&self.bits[slot as usize / 64 % (MOST_SLOTS / 64)], 1 << (slot % 64))
    }
}

/// A slot of a span in use. Whether an object is in it is another question: see [`is_allocated`](Object::is_allocated).
#[derive(Clone, Copy)]
pub(crate) struct Object {
    pub(crate) span: &'static Span,
    pub(crate) slot: u32,
    pub(crate) base: Address,
}

impl Object {
    #[inline(always)]
    pub(crate) fn bytes(self) -> Bytes {
        self.span.slot_bytes()
    }

    #[inline(always)]
    pub(crate) fn is_allocated(self) -> bool {
        self.span.is_allocated(self.slot)
    }

    #[inline(always)]
    pub(crate) fn mark(self) -> Slot {
        self.span.mark(self.slot)
    }

    #[cfg(test)]
    pub(crate) fn mark_stopped(self) -> bool {
        self.span.mark_stopped(self.slot)
    }

    #[inline(always)]
    pub(crate) fn is_marked(self) -> bool {
        self.span.is_marked(self.slot)
    }

    /// Of an object in a precise span with masks: bit n is set if word n may hold a reference.
    #[inline(always)]
    pub(crate) fn pointer_mask(self) -> u64 {
        self.span.pointer_mask(self.slot)
    }
}

#[cfg(test)]
impl Span {
    /// For corruption.rs.
    pub(super) fn fields(&self) -> super::corruption::Fields {
        super::corruption::Fields {
            base: self.base.as_ptr(),
            pages: self.pages.as_ptr(),
            slots: self.slots.as_ptr(),
            slot_bytes: self.slot_bytes.as_ptr(),
            reciprocal: self.reciprocal.as_ptr(),
            class: self.class.as_ptr(),
            state: self.state.as_ptr(),
            is_sure: self.is_sure.as_ptr().cast(),
            needs_zero: self.needs_zero.as_ptr().cast(),
            freed: self.freed.as_ptr(),
            generation: self.generation.as_ptr(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A span of the class for so many bytes, all slots free.
    pub(in crate::heap) fn open(bytes: usize, kind: Kind) -> &'static Span {
        let class = SpanClass::for_request(bytes, 8, kind).expect("small");
        let span: &Span = Box::leak(Box::new(Span::empty()));
        span.open(class, Address(0x4000_0000), class.pages());
        span
    }

    #[test]
    fn every_address_in_a_span_is_in_its_slot_or_in_none() {
        for bytes in (8..=32_760).step_by(8) {
            let span = open(bytes, Kind::Ambiguous);
            let size = span.slot_bytes().0;
            for offset in 0..span.pages().bytes().0 {
                let found = span.object_at(span.base().0 + offset);
                let expected = offset / size;
                assert_eq!(
                    found.map(|object| object.slot as usize),
                    (expected < span.slots() as usize).then_some(expected)
                );
                assert!(found.is_none_or(|object| object.base.0 == span.base().0 + expected * size));
                if bytes > 512 && offset % size == 8 {
                    break;
                }
            }
        }
    }
}
