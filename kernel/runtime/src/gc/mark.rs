//! Marking: from the roots to everything that can be reached. Go: mgcmark.go.
//!
//! A word becomes an object by [`Heap::find`]: arena, page, span, slot. What looks like a reference but is not one finds no span, a free
//! slot, or at worst an object that is kept one cycle too long.
//!
//! Unsafe here: reading the words of live memory.
#![allow(unsafe_code)]

use super::grey::GreyWork;
use super::{roots, verify};
use crate::addr::{Address, Bytes, Range};
use crate::cpu::Cpu;
use crate::heap::{Heap, Kind, Object};
use crate::platform::{Platform, platform};
use crate::switch_off::{self, Mechanism};

const WORD: usize = size_of::<usize>();

pub(super) struct Marker<'a> {
    heap: &'a Heap,
    grey: &'a mut GreyWork,
    platform: &'a dyn Platform,
}

/// How much was scanned beside the heap; the pacer counts it as live.
pub(super) struct Scanned {
    pub(super) stacks: Bytes,
    pub(super) globals: Bytes,
}

/// Marks everything that the roots reach. The world is stopped, all caches are flushed.
pub(super) fn mark_all(heap: &Heap, grey: &mut GreyWork, cpu: &Cpu) -> Scanned {
    let mut marker = Marker { heap, grey, platform: platform() };
    let scanned = roots::mark_roots(&mut marker, cpu);
    marker.drain();
    // Each round marks at least one object that was white before it dropped any, so the rounds come to an end.
    while marker.grey.take_dropped() {
        for span in heap.spans().filter(|span| span.kind() != Kind::Noscan) {
            for object in span.marked() {
                marker.scan(object);
                marker.drain();
            }
        }
    }
    scanned
}

impl Marker<'_> {
    /// A word of an object or a global: a reference to an object's inside, or something else.
    #[inline]
    pub(super) fn mark_word(&mut self, word: usize) {
        if let Some(object) = self.heap.find(word) {
            self.mark(word, object);
        }
    }

    /// What a precise object's word at `place` holds: [`mark_word`](Marker::mark_word), and if it should have been a reference but leads to
    /// no object, that is said.
    #[inline(always)]
    fn mark_reference(&mut self, holder: Object, place: usize, word: usize) {
        match self.heap.find(word) {
            Some(object) if object.is_allocated() => self.mark_allocated(word, object),
            _ if word == 0 => {}
            // In registers: an `Object` would be written to the stack before the question, for each word.
            _ => verify::no_object(self.heap, holder.span, holder.slot, place, word),
        }
    }

    /// A word of a stack or register. The compiler may keep only a pointer one past an object's end: a word that is not inside a slot
    /// keeps the slot before it too, be it the last of its span.
    #[inline]
    pub(super) fn mark_stack_word(&mut self, word: usize) {
        let object = self.heap.find(word);
        if let Some(object) = object {
            self.mark(word, object);
        }
        if object.is_none_or(|object| word == object.base.0) && !switch_off::is_off(Mechanism::EndPointers) {
            self.mark_word(word.wrapping_sub(1));
        }
    }

    #[inline(always)]
    fn mark(&mut self, word: usize, object: Object) {
        if object.is_allocated() {
            self.mark_allocated(word, object);
        }
    }

    #[inline(always)]
    fn mark_allocated(&mut self, word: usize, object: Object) {
        if word != object.base.0 && switch_off::is_off(Mechanism::InteriorPointers) {
            return;
        }
        if object.mark_stopped() && object.span.kind() != Kind::Noscan {
            self.grey.push(object, self.platform);
        }
    }

    /// Every aligned word of `range`, which is mapped and not written meanwhile.
    pub(super) fn scan_range(&mut self, range: Range, mut mark: impl FnMut(&mut Self, usize)) {
        let mut at = range.start.align_up(WORD);
        while at.0 + WORD <= range.end.0 {
            // SAFETY: the range is live memory (a stack, a global, an object), the world is stopped. Volatile: bytes that
            // the program never wrote are read too, and whatever is found there is a valid word.
            mark(self, unsafe { (at.0 as *const usize).read_volatile() });
            at = Address(at.0 + WORD);
        }
    }

    /// Makes a grey object black.
    #[inline(always)]
    fn scan(&mut self, object: Object) {
        match object.span.kind() {
            Kind::Noscan => {}
            Kind::Precise => {
                let mut mask = object.pointer_mask();
                while mask != 0 {
                    let word = object.base.0 + mask.trailing_zeros() as usize * WORD;
                    // SAFETY: the mask says that the object has this word.
                    self.mark_reference(object, word, unsafe { (word as *const usize).read_volatile() });
                    mask &= mask - 1;
                }
            }
            Kind::Ambiguous if switch_off::is_off(Mechanism::AmbiguousScan) => {}
            Kind::Ambiguous => self.scan_range(Range::new(object.base, object.bytes()), Self::mark_word),
        }
    }

    fn drain(&mut self) {
        while let Some(object) = self.grey.pop() {
            self.scan(object);
        }
    }
}
