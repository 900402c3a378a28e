//! A word that must be a reference and leads to free memory: the object was freed too early, or something wrote over the word.
//! Go: `badPointer` in mbitmap.go, under `GODEBUG=invalidptr=1`.
//!
//! Asked only of objects whose type says that the word holds a [`Gc`](crate::Gc) and nothing else ([`Trace::SURE`](crate::Trace::SURE)), in
//! spans with no other objects. Words that merely may be references are never judged.

use super::{Named, SWITCHES};
use crate::heap::{Heap, Kind};
use crate::throw;
use core::sync::atomic::Ordering::Relaxed;

/// The word at `place`, be that in an object or elsewhere, points into the heap's memory and leads to no object. (An
/// object of no size has an address outside.)
#[cold]
#[inline(never)]
pub(in crate::gc) fn no_object(heap: &Heap, place: usize, word: usize) {
    let Some(holder) = heap.find(place) else { return };
    let is_sure = holder.span.kind() == Kind::Precise && holder.span.is_sure();
    if !is_sure || !SWITCHES.invalid_pointers.load(Relaxed) {
        return;
    }
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
