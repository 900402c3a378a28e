//! The allocation window of a span: 64 neighbouring slots whose free ones are the set bits of one word, so that to
//! allocate is to find and clear the lowest bit. Go: allocCache and nextFreeFast in malloc.go, whose cache is shifted
//! past the slots it gave out; this one stays where it is, so that a slot freed at once can come back into it.
//!
//! Invariant: a slot inside the window is allocated iff its bit in `window` is clear; any other iff its bit in `bits`
//! is set. Moving the window writes it back. A span that nobody allocates from has no window: `bits` says it all.
//!
//! Unsafe here: reading what is this CPU's own.
#![allow(unsafe_code)]

use super::size_class::MOST_SLOTS;
use super::span::Span;
use crate::addr::Address;
use core::sync::atomic::Ordering::Relaxed;

/// The start of no window.
pub(super) const NOWHERE: u32 = MOST_SLOTS as u32;

impl Span {
    /// Takes the next free slot, or `None` if all are allocated. For the CPU that caches the span.
    #[inline(always)]
    pub(crate) fn take_slot(&self) -> Option<u32> {
        let mut window = self.window.load(Relaxed);
        if window == 0 {
            window = self.move_window();
            if window == 0 {
                return None;
            }
        }
        Some(self.take_lowest(window))
    }

    /// The same of the window as it stands.
    #[inline(always)]
    pub(super) fn take_slot_in_window(&self) -> Option<u32> {
        match self.window.load(Relaxed) {
            0 => None,
            window => Some(self.take_lowest(window)),
        }
    }

    #[inline(always)]
    fn take_lowest(&self, window: u64) -> u32 {
        self.window.store(window & window.wrapping_sub(1), Relaxed);
        // SAFETY: a u32, which only this CPU writes.
        let start = unsafe { self.window_start.as_ptr().read() };
        start.wrapping_add(window.trailing_zeros())
    }

    /// Its base, for the CPU that allocates here. Both are read as no atomics, of which the compiler makes an instruction each.
    #[inline(always)]
    pub(super) fn own_base(&self) -> Address {
        // SAFETY: a usize that nobody writes while the span is in use.
        Address(unsafe { self.base.as_ptr().read() })
    }

    /// Moves an exhausted window to the next word with a free slot, and returns it; 0 if there is none. Words behind
    /// the window are looked at again: slots may have been freed there.
    #[cold]
    #[inline(never)]
    fn move_window(&self) -> u64 {
        let words = self.words();
        let current = self.window_start.load(Relaxed) as usize / 64;
        if current >= words.len() {
            return 0;
        }
        words[current].allocated.store(u64::MAX, Relaxed);
        for word in (current + 1..words.len()).chain(0..current) {
            let free = !words[word].allocated.load(Relaxed);
            if free != 0 {
                self.window.store(free, Relaxed);
                self.window_start.store(word as u32 * 64, Relaxed);
                return free;
            }
        }
        0
    }

    /// Opens a window: from now on the caller's CPU allocates here.
    pub(super) fn begin_allocating(&self) {
        self.window.store(!self.bits[0].allocated.load(Relaxed), Relaxed);
        self.window_start.store(0, Relaxed);
    }

    /// Writes the window back.
    pub(super) fn end_allocating(&self) {
        if let Some(bits) = self.bits.get(self.window_start.load(Relaxed) as usize / 64) {
            bits.allocated.store(!self.window.load(Relaxed), Relaxed);
        }
        self.window.store(0, Relaxed);
        self.window_start.store(NOWHERE, Relaxed);
    }

    /// Makes an allocated slot free again, and it need not be zero; `false`: it is free already. For the CPU that caches the span, or
    /// of a span in no cache.
    #[inline(always)]
    pub(super) fn release_slot(&self, slot: u32) -> bool {
        let (bits, bit) = self.bit(slot);
        if slot & !63 == self.window_start.load(Relaxed) {
            let window = self.window.load(Relaxed);
            if window & bit != 0 {
                return false;
            }
            self.window.store(window | bit, Relaxed);
        } else {
            let allocated = bits.allocated.load(Relaxed);
            if allocated & bit == 0 {
                return false;
            }
            bits.allocated.store(allocated & !bit, Relaxed);
        }
        self.set_needs_zero(true);
        true
    }

    /// Whether there is an object in the slot.
    #[inline(always)]
    pub(crate) fn is_allocated(&self, slot: u32) -> bool {
        let (bits, bit) = self.bit(slot);
        if slot & !63 == self.window_start.load(Relaxed) {
            self.window.load(Relaxed) & bit == 0
        } else {
            bits.allocated.load(Relaxed) & bit != 0
        }
    }

    /// Whether a span that nobody allocates from has a free slot.
    pub(super) fn has_room(&self) -> bool {
        self.words().iter().any(|bits| bits.allocated.load(Relaxed) != u64::MAX)
    }

    pub(crate) fn free_slots(&self) -> usize {
        let current = self.window_start.load(Relaxed) as usize / 64;
        let mut free = count(self.window.load(Relaxed));
        for (word, bits) in self.words().iter().enumerate() {
            if word != current {
                free += count(!bits.allocated.load(Relaxed));
            }
        }
        free
    }
}

/// How many bits are set. Of free slots mostly none, and counting takes 17 instructions where a processor need not have one for it.
#[inline(always)]
pub(super) fn count(bits: u64) -> usize {
    if bits == 0 { 0 } else { bits.count_ones() as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Random;
    use crate::heap::{Kind, SpanClass};

    fn open(bytes: usize) -> Span {
        let class = SpanClass::for_request(bytes, 8, Kind::Noscan).expect("small");
        let span = Span::empty();
        span.open(class, Address(0x4000_0000), class.pages());
        span
    }

    #[test]
    fn an_empty_span_and_one_without_a_window_give_no_slot() {
        assert_eq!(Span::empty().take_slot(), None);
        assert_eq!(open(64).take_slot(), None);
    }

    #[test]
    fn every_slot_is_given_once_in_rising_order() {
        for bytes in [8, 24, 48, 100, 1024, 5000, 32_760] {
            let span = open(bytes);
            span.begin_allocating();
            for slot in 0..span.slots() {
                assert_eq!(span.free_slots(), (span.slots() - slot) as usize);
                assert_eq!(span.take_slot(), Some(slot));
            }
            assert_eq!((span.take_slot(), span.take_slot(), span.free_slots()), (None, None, 0));
        }
    }

    #[test]
    fn any_trace_of_takes_and_releases_agrees_with_one_flag_per_slot() {
        let mut random = Random::new();
        for bytes in [8, 24, 48, 128, 4096] {
            let span = open(bytes);
            let slots = span.slots() as usize;
            let mut naive = vec![false; slots];
            span.begin_allocating();
            for step in 0..if cfg!(miri) { 300 } else { 4000 } {
                if step % 700 == 699 {
                    span.end_allocating();
                    span.begin_allocating();
                }
                let slot = random.below(slots);
                if naive[slot] && random.below(2) == 0 {
                    assert!(span.release_slot(slot as u32) && !span.release_slot(slot as u32));
                    naive[slot] = false;
                } else if let Some(taken) = span.take_slot() {
                    assert!(!core::mem::replace(&mut naive[taken as usize], true), "slot {taken} was free");
                } else {
                    assert!(naive.iter().all(|taken| *taken), "no slot is lost");
                }
                assert_eq!(span.free_slots(), naive.iter().filter(|taken| !**taken).count());
                let probe = random.below(slots);
                assert_eq!(span.is_allocated(probe as u32), naive[probe]);
            }
            span.end_allocating();
            assert!((0..slots).all(|slot| span.is_allocated(slot as u32) == naive[slot]));
        }
    }
}
