//! Tiny objects: noscan ones of fewer than 16 bytes share slots of 16. Go: mallocgcTiny in malloc.go, `tiny` in mcache.go.
//!
//! A CPU gives out the bytes of one such slot, its block, from the first to the last, each object at a multiple of 8, 4 or 2 if its size is
//! one. A reference to any of them keeps the slot, for the marker knows slots only; when the last one is gone the slot is free. The block
//! itself is no root: every collection begins by forgetting it ([`Cache::flush`](super::Cache::flush)).

use super::{Heap, Kind, SpanClass};
use core::sync::atomic::Ordering::Relaxed;

/// The size of a block.
pub(crate) const BLOCK: usize = 16;

/// What the blocks are slots of.
pub(super) const CLASS: SpanClass = match SpanClass::for_request(BLOCK, BLOCK, Kind::Noscan) {
    Some(class) => class,
    None => panic!("a block is small"),
};

/// One CPU's block.
pub(super) struct Tiny {
    /// Where the block's free bytes begin; they end with the block. A multiple of [`BLOCK`], 0 say: there is none.
    next: usize,
    /// How many objects have shared a slot with one before them.
    combined: usize,
}

impl Tiny {
    pub(super) const fn new() -> Tiny {
        Tiny { next: 0, combined: 0 }
    }

    /// The place of an object of so many bytes, 1 to 15, in the block, if it has room.
    #[inline(always)]
    pub(super) fn take(&mut self, bytes: usize) -> Option<usize> {
        let align = 1 << bytes.trailing_zeros().min(3);
        let place = self.next.wrapping_add(align - 1) & !(align - 1);
        let used = place % BLOCK;
        if used == 0 || used > BLOCK - bytes {
            return None;
        }
        self.next = place.wrapping_add(bytes);
        self.combined = self.combined.wrapping_add(1);
        Some(place)
    }

    /// A new slot has its first object, of so many bytes. It is the block from now on if it has more room than the old one.
    #[inline(always)]
    pub(super) fn begin(&mut self, slot: usize, bytes: usize) {
        if self.next.wrapping_neg() % BLOCK < BLOCK - bytes {
            self.next = slot.wrapping_add(bytes);
        }
    }

    /// Forgets the block, and how many objects were combined.
    pub(super) fn flush(&mut self, heap: &Heap) {
        self.next = 0;
        heap.combined.fetch_add(core::mem::take(&mut self.combined), Relaxed);
    }

    /// Whether the block, if there is one, is in an object's slot.
    pub(super) fn check(&self, heap: &Heap) -> bool {
        let is_block = |object: super::Object| object.span.class() == CLASS && object.is_allocated();
        self.next.is_multiple_of(BLOCK) || heap.find(self.next).is_some_and(is_block)
    }

    pub(super) fn combined(&self) -> usize {
        self.combined
    }
}

#[cfg(test)]
impl Tiny {
    /// For corruption.rs.
    pub(super) fn place(&self) -> *const usize {
        &raw const self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Random;

    /// Where Go 1.27 puts objects of these sizes: the number of each one's slot, and its offset there.
    fn places(sizes: &[usize]) -> Vec<(usize, usize)> {
        let (mut tiny, mut slots) = (Tiny::new(), 0);
        let place = |&bytes: &usize| {
            let place = tiny.take(bytes).unwrap_or_else(|| {
                slots += BLOCK;
                tiny.begin(slots, bytes);
                slots
            });
            (place / BLOCK, place % BLOCK)
        };
        sizes.iter().map(place).collect()
    }

    #[test]
    fn sixteen_bytes_fill_a_slot_and_the_seventeenth_begins_the_next() {
        let expected: Vec<_> = (0..17).map(|nth| (1 + nth / 16, nth % 16)).collect();
        assert_eq!(places(&[1; 17]), expected);
    }

    #[test]
    fn objects_are_aligned_to_8_4_or_2_if_their_size_is_a_multiple_of_it() {
        assert_eq!(places(&[1, 8]), [(1, 0), (1, 8)]);
        assert_eq!(places(&[1, 4, 1, 4]), [(1, 0), (1, 4), (1, 8), (1, 12)]);
        assert_eq!(places(&[1, 2, 2, 3, 6]), [(1, 0), (1, 2), (1, 4), (1, 6), (1, 10)]);
        assert_eq!(places(&[3, 12]), [(1, 0), (1, 4)]);
        assert_eq!(places(&[1, 15, 1]), [(1, 0), (1, 1), (2, 0)]);
    }

    #[test]
    fn of_two_blocks_the_one_with_more_room_is_kept() {
        // The slot of 12 has room for 4, the one before for 8; where both have 7, the old one stays.
        assert_eq!(places(&[8, 12, 8]), [(1, 0), (2, 0), (1, 8)]);
        assert_eq!(places(&[12, 8, 8]), [(1, 0), (2, 0), (2, 8)]);
        assert_eq!(places(&[9, 9, 1]), [(1, 0), (2, 0), (1, 9)]);
    }

    #[test]
    fn objects_of_any_sizes_lie_apart_aligned_and_within_their_slots() {
        let mut random = Random::new();
        let sizes: Vec<_> = (0..10_000).map(|_| 1 + random.below(15)).collect();
        let places = places(&sizes);
        let mut taken = std::collections::BTreeSet::new();
        for (&bytes, (slot, offset)) in sizes.iter().zip(places) {
            assert!(offset + bytes <= BLOCK && (offset | 8).trailing_zeros() >= (bytes | 8).trailing_zeros());
            assert!((offset..offset + bytes).all(|byte| taken.insert((slot, byte))));
        }
    }
}
