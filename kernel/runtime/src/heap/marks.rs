//! The marks of a span, and what sweeping it makes of them. Go: markBits in mbitmap.go, `sweep` in mgcsweep.go.

use super::span::{Object, Span};
use super::window::count;
use core::sync::atomic::Ordering::Relaxed;

/// What a slot was before it was to be marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    Free,
    White,
    Marked,
}

impl Span {
    /// Marks the object in a slot, if there is one. For a world that has stopped and a single CPU that marks: plain loads and stores.
    ///
    /// Of a span in a cache ([`preview`](crate::gc) marks with caches as they are) a slot freed just now may pass for an object.
    #[inline(always)]
    pub(crate) fn mark(&self, slot: u32) -> Slot {
        let (bits, bit) = self.bit(slot);
        let marked = bits.marked.load(Relaxed);
        if marked & bit != 0 {
            return Slot::Marked;
        }
        if bits.allocated.load(Relaxed) & bit == 0 && !self.is_allocated(slot) {
            return Slot::Free;
        }
        bits.marked.store(marked | bit, Relaxed);
        Slot::White
    }

    /// Marks a slot, whatever is in it; true if it was not marked.
    #[cfg(test)]
    pub(crate) fn mark_stopped(&self, slot: u32) -> bool {
        let (bits, bit) = self.bit(slot);
        let marked = bits.marked.load(Relaxed);
        if marked & bit != 0 {
            return false;
        }
        bits.marked.store(marked | bit, Relaxed);
        true
    }

    #[inline(always)]
    pub(crate) fn is_marked(&self, slot: u32) -> bool {
        let (bits, bit) = self.bit(slot);
        bits.marked.load(Relaxed) & bit != 0
    }

    /// The marked objects at the time when each is reached.
    pub(crate) fn marked(&'static self) -> impl Iterator<Item = Object> {
        self.objects().filter(|object| object.is_marked())
    }

    /// Leaves a marked object to the sweep after all.
    pub(super) fn unmark(&self, slot: u32) {
        let (bits, bit) = self.bit(slot);
        bits.marked.store(bits.marked.load(Relaxed) & !bit, Relaxed);
    }

    pub(super) fn clear_marks(&self) {
        self.words().iter().for_each(|bits| bits.marked.store(0, Relaxed));
    }

    /// How many objects an unswept span has, if none of them is marked. The span is in no list and no cache.
    pub(super) fn count_dead(&self) -> Option<usize> {
        let mut free = 0;
        for bits in self.words() {
            if bits.marked.load(Relaxed) != 0 {
                return None;
            }
            free += count(!bits.allocated.load(Relaxed));
        }
        Some(self.slots() as usize - free)
    }

    /// What is not marked is free, and the marks are cleared for the next cycle; the span is of this generation then. Returns how many
    /// objects that has freed. The span is in no list and no cache.
    pub(super) fn sweep(&self, generation: u8) -> usize {
        let (words, slots) = (self.words(), self.slots() as usize);
        let mut freed = 0;
        for bits in words {
            let live = bits.marked.load(Relaxed);
            freed += count(bits.allocated.load(Relaxed) & !live);
            bits.allocated.store(live, Relaxed);
            bits.marked.store(0, Relaxed);
        }
        // The bits past the last slot are no objects'.
        freed -= words.len() * 64 - slots;
        self.fill_beyond();
        if freed != 0 {
            self.set_needs_zero(true);
        }
        self.set_freed(0);
        self.set_generation(generation);
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Kind;
    use crate::heap::span::tests::open;

    #[test]
    fn a_slot_is_newly_marked_once_and_only_it() {
        let span = open(8, Kind::Noscan);
        for slot in [0, 1, 63, 64, 511, 1023] {
            assert!(!span.is_marked(slot));
            assert!(span.mark_stopped(slot));
            assert!(!span.mark_stopped(slot) && span.is_marked(slot));
        }
        assert!(span.marked().map(|object| object.slot).eq([0, 1, 63, 64, 511, 1023]));
        span.clear_marks();
        assert_eq!(span.marked().count(), 0);
    }

    #[test]
    fn an_object_is_marked_once_and_a_free_slot_never() {
        let span = open(48, Kind::Noscan);
        span.begin_allocating();
        (0..100).for_each(|slot| assert_eq!(span.take_slot(), Some(slot)));
        // In the window as much as outside.
        for at_rest in [false, true] {
            assert_eq!([0, 77, 99, 100, 169].map(|slot| span.mark(slot)), {
                [Slot::White, Slot::White, Slot::White, Slot::Free, Slot::Free]
            });
            assert_eq!([0, 99, 100].map(|slot| span.mark(slot)), [Slot::Marked, Slot::Marked, Slot::Free]);
            span.clear_marks();
            if !at_rest {
                span.end_allocating();
            }
        }
    }

    #[test]
    fn a_sweep_turns_marks_into_allocation_bits() {
        let span = open(48, Kind::Noscan);
        assert_eq!(span.slots(), 170);
        span.begin_allocating();
        (0..100).for_each(|slot| assert_eq!(span.take_slot(), Some(slot)));
        span.end_allocating();
        [3, 77, 99].into_iter().for_each(|slot| assert!(span.mark_stopped(slot)));
        assert_eq!((span.count_dead(), span.sweep(1)), (None, 97));
        assert!(span.allocated().map(|object| object.slot).eq([3, 77, 99]));
        assert_eq!((span.count_dead(), span.sweep(1)), (Some(3), 3));
    }
}
