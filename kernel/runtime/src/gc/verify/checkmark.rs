//! The second opinion (`GODEBUG=gccheckmark=1`): marks everything once more, in bits beside the heap, and compares. Go: mcheckmark.go.
//!
//! It shares with the collector what says where roots are and what is at an address ([`Heap::find`]), and nothing else:
//! no mark bit, no grey stack, no scan. A few hundred objects wait on a list of fixed length; those that find it full
//! have only their *seen* bit, and are looked for, seen but not *done*, when it is empty. Where it meets an object for
//! the first time it looks at the collector's mark; in the end nothing may be marked that it has not met.
//!
//! Unsafe here: reading the words of live memory.
#![allow(unsafe_code)]

use super::Named;
use super::side_bits::SideBits;
use crate::addr::{Address, Range};
use crate::cpu::Cpu;
use crate::gc::roots::{self, Root};
use crate::heap::{Heap, Object};
use crate::platform::platform;
use crate::throw;
use core::fmt;

const WAITING: usize = 512;

pub(super) struct Checker {
    seen: SideBits,
    done: SideBits,
    waiting: [usize; WAITING],
    count: usize,
    has_missed: bool,
}

/// Who has the word that led to an object.
#[derive(Clone, Copy)]
enum Holder {
    Root(Root),
    Object(Object),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Root(root) => root.fmt(f),
            Holder::Object(object) => Named(*object).fmt(f),
        }
    }
}

impl Checker {
    pub(super) const fn new() -> Checker {
        Checker { seen: SideBits::new(), done: SideBits::new(), waiting: [0; WAITING], count: 0, has_missed: false }
    }

    /// Compares what is reachable with what is marked. Without memory for its bits it says so, and nothing more.
    pub(super) fn check(&mut self, heap: &Heap, cpu: &Cpu) {
        let covered = self.seen.cover(heap, platform()).and_then(|()| self.done.cover(heap, platform()));
        if let Err(out) = covered {
            return crate::report!(
                "gccheckmark: no memory for its bits, {:?} left: this cycle is not checked",
                out.left
            );
        }
        roots::for_each_root(cpu, |root, range| self.visit_words(heap, Holder::Root(root), range));
        self.visit_waiting(heap);
        while core::mem::take(&mut self.has_missed) {
            for object in heap.spans().flat_map(|span| span.allocated()) {
                if self.seen.is_set(object.base) && !self.done.is_set(object.base) {
                    self.visit_object(heap, object);
                    self.visit_waiting(heap);
                }
            }
        }
        for object in heap.spans().flat_map(|span| span.marked()) {
            if !self.seen.is_set(object.base) {
                throw!("gccheckmark: {} is marked, and nothing that is reachable refers to it", Named(object));
            }
        }
    }

    fn visit_waiting(&mut self, heap: &Heap) {
        while let Some(last) = self.count.checked_sub(1) {
            self.count = last;
            if let Some(object) = heap.find(self.waiting[last]) {
                self.visit_object(heap, object);
            }
        }
    }

    /// Meets all that an object refers to.
    fn visit_object(&mut self, heap: &Heap, object: Object) {
        if !self.done.set(object.base) {
            return;
        }
        for word in (0..object.bytes().0 / 8).filter(|&word| object.may_refer(word)) {
            self.visit_word(heap, Holder::Object(object), object.base.0 + 8 * word);
        }
    }

    fn visit_words(&mut self, heap: &Heap, holder: Holder, range: Range) {
        let mut place = range.start.align_up(8).0;
        while place + 8 <= range.end.0 {
            self.visit_word(heap, holder, place);
            place += 8;
        }
    }

    fn visit_word(&mut self, heap: &Heap, holder: Holder, place: usize) {
        // SAFETY: a word of a root or of a live object; the world is stopped.
        let word = unsafe { (place as *const usize).read_volatile() };
        self.meet(heap, holder, place, word);
        // Only a pointer one past an object's end may be left of it.
        if let Holder::Root(root) = holder
            && root.is_compilers()
            && heap.find(word).is_none_or(|object| object.base == Address(word))
        {
            self.meet(heap, holder, place, word.wrapping_sub(1));
        }
    }

    /// The object that `word` points into is reachable, if there is one.
    fn meet(&mut self, heap: &Heap, holder: Holder, place: usize, word: usize) {
        let Some(object) = heap.find(word).filter(|object| object.is_allocated()) else { return };
        if !self.seen.set(object.base) {
            return;
        }
        if !object.is_marked() {
            let object = Named(object);
            throw!(
                "gccheckmark: {object} is reachable but not marked\n\t{word:#x} at {:?} refers to it, in {holder}",
                Address(place)
            );
        }
        match self.waiting.get_mut(self.count) {
            Some(next) => {
                *next = object.base.0;
                self.count += 1;
            }
            None => self.has_missed = true,
        }
    }
}
