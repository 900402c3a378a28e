//! The pointer map of a precise span of objects up to 512 bytes: a bit per word, at the span's end, slot after slot
//! without gaps. A set bit says that the word may hold a reference. Go: heapBitsInSpan in mbitmap.go.
//!
//! Unsafe here: reading and writing the map, in the last 64th of the span's own page.
#![allow(unsafe_code)]

use super::find_object::prefetch;
use super::span::Span;
use super::span_class::SpanClass;
use crate::addr::PAGE;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const MAP_BYTES: usize = PAGE.0 / 64;
const MAP_WORDS: usize = MAP_BYTES / 8;

/// Where a slot's mask is: as many bits as the slot has words (`ones`), from bit `shift` of map word `index` on; what
/// does not fit there is in the next.
struct Place {
    index: usize,
    shift: u32,
    ones: u64,
    continues: bool,
}

impl Place {
    #[inline(always)]
    fn new(slot: u32, slot_bytes: usize) -> Place {
        let words = (slot_bytes / 8) as u32;
        let first = slot.wrapping_mul(words);
        let shift = first % 64;
        let ones = u64::MAX.wrapping_shr(64u32.wrapping_sub(words));
        Place { index: first as usize / 64 % MAP_WORDS, shift, ones, continues: shift.wrapping_add(words) > 64 }
    }

    /// Where it goes on.
    #[inline(always)]
    fn next(&self) -> (usize, u32) {
        ((self.index + 1) % MAP_WORDS, 64u32.wrapping_sub(self.shift))
    }
}

impl Span {
    /// Says which words of the object in `slot` may hold references, before anyone can see it. For the CPU that caches
    /// the span, whose class this is.
    #[inline(always)]
    pub(super) fn write_pointer_mask(&self, class: SpanClass, slot: u32, mask: u64) {
        let map = self.pointer_map();
        // The class says what the span could say too, but it is often a constant.
        let place = Place::new(slot, class.slot_bytes());
        debug_assert!(mask & !place.ones == 0, "the mask has no bits past the slot");
        let mask = mask & place.ones;
        // The other bits of the word are neighbours', whose masks only this CPU writes: plain stores do.
        let replace = |word: &AtomicU64, ones: u64, mask: u64| match ones {
            // Not looked at: to wait for the map takes longer than the whole allocation, where the page is in no cache.
            u64::MAX => word.store(mask, Relaxed),
            _ => word.store(word.load(Relaxed) & !ones | mask, Relaxed),
        };
        replace(&map[place.index], place.ones << place.shift, mask << place.shift);
        if place.continues {
            let (index, shift) = place.next();
            replace(&map[index], place.ones.wrapping_shr(shift), mask.wrapping_shr(shift));
        }
    }

    /// Has the processor fetch the map, for a CPU that is about to allocate here.
    pub(super) fn prefetch_pointer_map(&self) {
        self.pointer_map().chunks(8).for_each(|line| prefetch::<0>(line.as_ptr().addr()));
    }

    /// Which words of the object in an allocated slot may hold references. For precise spans.
    #[inline(always)]
    pub(crate) fn pointer_mask(&self, slot: u32) -> u64 {
        let map = self.pointer_map();
        let place = Place::new(slot, self.slot_bytes().0);
        let (next, _) = place.next();
        // No branch: which slots go on in the next word no processor foresees.
        let low = map[place.index].load(Relaxed) >> place.shift;
        let high = map[next].load(Relaxed) << 1 << (63 - place.shift);
        (low | high) & place.ones
    }

    #[inline(always)]
    fn pointer_map(&self) -> &[AtomicU64; MAP_WORDS] {
        debug_assert!(self.class().has_masks());
        let map = self.base().0.wrapping_add(PAGE.0 - MAP_BYTES);
        // SAFETY: a precise span is one committed page (asserted where the classes are made) whose slots end before
        // the map (SpanClass::slots); pages are aligned, and committed for as long as the span has them.
        unsafe { &*core::ptr::with_exposed_provenance(map) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Address;
    use crate::heap::Kind;
    use crate::heap::pretend::Random;
    use crate::heap::size_class::LARGEST_PRECISE;

    #[test]
    fn every_slot_of_every_precise_class_keeps_its_own_mask() {
        let mut random = Random::new();
        let page = std::alloc::Layout::from_size_align(PAGE.0, PAGE.0).expect("a power of two");
        // SAFETY: the layout is not empty.
        let base = unsafe { std::alloc::alloc(page) };
        // SAFETY: the whole of a block just allocated.
        unsafe { base.write_bytes(0xa5, PAGE.0) };
        for bytes in (8..=LARGEST_PRECISE).step_by(8) {
            let class = SpanClass::for_request(bytes, 8, Kind::Precise).expect("small");
            let span = Span::empty();
            span.open(class, Address(base.expose_provenance()), class.pages());
            let words = class.slot_bytes() / 8;
            let mut masks = vec![0; class.slots()];
            let mut order: Vec<_> = (0..class.slots()).chain(0..class.slots()).collect();
            random.shuffle(&mut order);
            for slot in order {
                masks[slot] = random.word() >> (64 - words);
                span.write_pointer_mask(class, slot as u32, masks[slot]);
            }
            assert!((0..class.slots()).all(|slot| span.pointer_mask(slot as u32) == masks[slot]), "{bytes} bytes");
        }
        // SAFETY: allocated above with the same layout.
        unsafe { std::alloc::dealloc(base, page) };
    }
}
