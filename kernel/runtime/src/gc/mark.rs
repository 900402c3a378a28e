//! Marking: from the roots to everything that can be reached. Go: mgcmark.go.
//!
//! A word becomes an object by its page's owner and its slot (heap/find_object.rs). What looks like a reference but is
//! not one finds no span, a free slot, or at worst an object that is kept one cycle too long.
//!
//! 1. [`meet`](Marker::meet) reads a word. If it points into the heap's memory, the processor is told to fetch what it
//!    leads to, and it waits in a queue (ahead.rs) until as many others have been met as that takes.
//! 2. [`follow`](Marker::follow) marks its object, and puts the object's words that may be references on the stack (grey.rs).
//! 3. [`scan`](Marker::scan) takes them from there, and meets each.
//!
//! So an object is looked up once. The order is depth first, but for the queue: what is near the stack's top is in a cache.
//!
//! Unsafe here: reading the words of live memory.
#![allow(unsafe_code)]

use super::ahead::Edge;
use super::grey::{Grey, GreyWork};
use super::{roots, verify};
use crate::addr::{Address, Bytes, Range};
use crate::cpu::Cpu;
use crate::heap::{Heap, Kind, Object, References, Slot, Snapshot};
use crate::platform::{Platform, platform};
use crate::switch_off::{self, Mechanism};

const WORD: usize = size_of::<usize>();
/// Of an object whose every word may be a reference, scanned at a time.
const PIECE: Bytes = Bytes(1024);

pub(super) struct Marker<'a> {
    heap: &'a Heap,
    spans: Snapshot,
    grey: &'a mut GreyWork,
    platform: &'a dyn Platform,
}

/// How much is live.
pub(super) struct Marked {
    pub(super) objects: Bytes,
    /// The used parts of the stacks.
    pub(super) stacks: Bytes,
}

/// Marks everything that the roots reach. The world is stopped, all caches are flushed, all spans are swept.
pub(super) fn mark_all(heap: &Heap, grey: &mut GreyWork, cpu: &Cpu) -> Marked {
    grey.marked = Bytes(0);
    let mut marker = Marker { heap, spans: heap.snapshot(), grey, platform: platform() };
    let stacks = roots::mark_roots(&mut marker, cpu);
    marker.drain();
    // Each round marks at least one object that was white before it dropped any, so the rounds come to an end.
    while marker.grey.take_dropped() && !switch_off::is_off(Mechanism::DroppedWork) {
        for span in heap.spans().filter(|span| span.kind() != Kind::Noscan) {
            for object in span.marked() {
                Grey::of(object).into_iter().for_each(|grey| marker.scan(grey));
                marker.drain();
            }
        }
    }
    Marked { objects: marker.grey.marked, stacks }
}

impl Grey {
    /// All that is to be looked at of an object, if anything is.
    #[inline(always)]
    fn of(object: Object) -> Option<Grey> {
        let mask = match object.span.references() {
            References::None => return None,
            References::Masks => object.pointer_mask(),
            References::Patterns if switch_off::is_off(Mechanism::AmbiguousScan) => return None,
            References::Patterns => object.short_mask(),
        };
        Some(Grey { start: object.base, mask })
    }
}

impl Marker<'_> {
    /// Every aligned word of `range`, which is mapped and not written meanwhile: each may be a reference to an object's inside.
    pub(super) fn scan_range(&mut self, range: Range) {
        let (mut place, end) = (range.start.align_up(WORD).0, range.end.align_down(WORD).0);
        while place < end {
            self.meet(place);
            place = place.wrapping_add(WORD);
        }
    }

    /// The same for words that the compiler chose, of a stack or of registers. It may keep only a pointer one past an object's end: a word
    /// that is not inside a slot keeps the slot before it too, be it the last of its span.
    pub(super) fn scan_stack(&mut self, range: Range) {
        for place in (range.start.align_up(WORD).0..range.end.align_down(WORD).0).step_by(WORD) {
            let word = read(place);
            let object = self.spans.find(word);
            if let Some(object) = object {
                self.mark(word, object);
            }
            if object.is_none_or(|object| word == object.base.0)
                && !switch_off::is_off(Mechanism::EndPointers)
                && let Some(before) = self.spans.find(word.wrapping_sub(1))
            {
                self.mark(word.wrapping_sub(1), before);
            }
        }
    }

    /// A word that may be a reference.
    #[inline(always)]
    fn meet(&mut self, place: usize) {
        let word = read(place);
        let Some(owner) = self.spans.entry(word) else { return };
        match Snapshot::owner_ahead(word, owner) {
            None => verify::no_object(self.heap, place, word),
            Some(span) => {
                if let Some(oldest) = self.grey.ahead.exchange(Edge { word, place, span }) {
                    self.follow(oldest);
                }
            }
        }
    }

    /// What a precise object says is a reference, and leads to no object, is reported.
    #[inline(always)]
    fn follow(&mut self, Edge { word, place, span }: Edge) {
        if !span.object_at(word).is_some_and(|object| self.mark(word, object)) {
            verify::no_object(self.heap, place, word);
        }
    }

    /// Makes a white object grey. `false`: there is none, the slot is free.
    #[inline(always)]
    fn mark(&mut self, word: usize, object: Object) -> bool {
        if word != object.base.0 && switch_off::is_off(Mechanism::InteriorPointers) {
            return true;
        }
        let slot = object.mark();
        if slot == Slot::White {
            self.grey.marked.0 = self.grey.marked.0.wrapping_add(object.bytes().0);
            if let Some(grey) = Grey::of(object)
                && !self.grey.push(grey, self.platform)
            {
                self.grey.drop_one();
            }
        }
        slot != Slot::Free
    }

    /// Makes a grey object black.
    #[inline(always)]
    fn scan(&mut self, Grey { start, mask }: Grey) {
        if mask == 0 {
            return self.scan_rest(start);
        }
        self.scan_words(start, mask);
    }

    #[inline(always)]
    fn scan_words(&mut self, start: Address, mut mask: u64) {
        while mask != 0 {
            self.meet(start.0.wrapping_add(mask.trailing_zeros() as usize * WORD));
            mask &= mask - 1;
        }
    }

    /// A larger object from `start` on: a piece of it, and what that leads to before the next piece, lest all it refers to be grey at once.
    #[cold]
    #[inline(never)]
    fn scan_rest(&mut self, start: Address) {
        let Some(object) = self.spans.find(start.0) else { return };
        if let Some(rest) = object.every_word(start) {
            let next = rest.start.plus(PIECE);
            let waits = next < rest.end && self.grey.push(Grey { start: next, mask: 0 }, self.platform);
            return self.scan_range(if waits { Range::new(rest.start, PIECE) } else { rest });
        }
        let mut place = Some(start);
        while let Some(piece) = place.and_then(|start| object.piece(start)) {
            let waits = piece.next.is_some_and(|start| self.grey.push(Grey { start, mask: 0 }, self.platform));
            self.scan_words(piece.start, piece.mask);
            place = piece.next.filter(|_| !waits);
        }
    }

    fn drain(&mut self) {
        loop {
            if let Some(grey) = self.grey.pop() {
                self.scan(grey);
            } else if let Some(oldest) = self.grey.ahead.take() {
                self.follow(oldest);
            } else {
                return;
            }
        }
    }
}

/// Of memory that the program may never have written: whatever is found there is a valid word.
#[inline(always)]
fn read(place: usize) -> usize {
    // SAFETY: a word of live memory (a stack, a global, an object), the world is stopped. Volatile, for nobody need have written it.
    unsafe { (place as *const usize).read_volatile() }
}
