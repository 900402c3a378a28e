//! A word that must be a reference and leads to free memory: the object was freed too early, or something wrote over the word.
//! Go: `badPointer` in mbitmap.go, under `GODEBUG=invalidptr=1`.
//!
//! Asked only of objects whose type says that the word holds a [`Gc`](crate::Gc) and nothing else ([`Trace::SURE`](crate::Trace::SURE)), in
//! spans with no other objects. Words that merely may be references are never judged.

use super::{Named, SWITCHES};
use crate::heap::{Heap, Object, Span};
use crate::throw;
use core::sync::atomic::Ordering::Relaxed;

/// The word at `place` in `holder` leads to no object. Outside the heap's memory it may: an object of no size has such an address.
#[cold]
#[inline(never)]
pub(in crate::gc) fn no_object(heap: &Heap, span: &'static Span, slot: u32, place: usize, word: usize) {
    if !heap.is_in_memory(word) || !span.is_sure() || !SWITCHES.invalid_pointers.load(Relaxed) {
        return;
    }
    let holder = Object { span, slot, base: span.slot_base(slot) };
    let (index, holder) = ((place - holder.base.0) / size_of::<usize>(), Named(holder));
    match heap.find(word) {
        Some(free) => {
            throw!(
                "found bad pointer in Go heap: {word:#x} leads to free {}\n\tin word {index} of {holder}",
                Named(free)
            )
        }
        None => throw!("found bad pointer in Go heap: {word:#x} leads to a free page\n\tin word {index} of {holder}"),
    }
}
