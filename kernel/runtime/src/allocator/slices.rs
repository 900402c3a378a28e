//! Objects of as many elements as is known only when they are made: boxed slices, and the buffers of collections.
//! Go: `makeslice` in slice.go, `roundupsize` in msize.go.
//!
//! Unsafe here: zeroing fresh slots, freeing by hand.
#![allow(unsafe_code)]

use super::{Exhausted, allocate_large, exhausted, free_block, refill};
use crate::addr::{Bytes, Pages};
use crate::cpu::Allocating;
use crate::gc::Trace;
use crate::gc::trace::Readings;
use crate::heap::{self, Kind, Reading, SpanClass};
use crate::platform::platform;
use core::alloc::Layout;
use core::ptr::NonNull;

/// Room for `count` values side by side, of all zero bytes if that is asked or if they may hold references: a collection that comes before
/// they are written finds none. No memory is taken for values of size zero, or none.
pub(crate) fn new_slice<T: Trace>(count: usize, zeroed: bool) -> Result<NonNull<T>, Exhausted> {
    match Layout::array::<T>(count) {
        Ok(layout) if layout.size() == 0 => Ok(NonNull::dangling()),
        Ok(layout) => allocate(layout, T::SLICE, zeroed).map(NonNull::cast),
        Err(_) => Err(too_long()),
    }
}

/// More than any memory has.
pub(crate) fn too_long() -> Exhausted {
    Exhausted { asked: Bytes(isize::MAX as usize), left: platform().free_memory() }
}

/// Makes the room for `count` values free for others at once, as far as [`GlobalAlloc::dealloc`](core::alloc::GlobalAlloc::dealloc) does.
///
/// # Safety
/// It is from [`new_slice`] with a count that has the same [`usable`] one, and nobody uses it any more.
pub(crate) unsafe fn free_slice<T: Trace>(place: NonNull<T>, count: usize) {
    if let Ok(layout) = Layout::array::<T>(count)
        && layout.size() > 0
    {
        let class = SpanClass::for_request(layout.size(), layout.align(), T::SLICE.kind);
        // SAFETY: the same class as at the allocation: all that is usable of its slots is one class's. The rest is the caller's promise.
        unsafe { free_block(place.cast(), class, T::SLICE.kind, Bytes(layout.size())) };
    }
}

/// How many values of a size that is not zero there is room for where there is room for `count`.
pub(crate) fn usable<T: Trace>(count: usize) -> usize {
    let Ok(layout) = Layout::array::<T>(count) else { return count };
    let bytes = match SpanClass::for_request(layout.size(), layout.align(), T::SLICE.kind) {
        Some(class) => class.usable_bytes(),
        None => Pages::holding(Bytes(layout.size())).bytes().0,
    };
    bytes / size_of::<T>()
}

/// A block that the collector never reads, whatever it is aligned to.
pub(crate) fn new_noscan(layout: Layout) -> Result<NonNull<u8>, Exhausted> {
    allocate(layout, Reading::of_block(Kind::Noscan), false)
}

/// # Safety
/// The block is from [`new_noscan`] with the same layout, and nobody uses it any more.
pub(crate) unsafe fn free_noscan(block: NonNull<u8>, layout: Layout) {
    let class = SpanClass::for_request(layout.size(), layout.align(), Kind::Noscan);
    // SAFETY: the caller's promise.
    unsafe { free_block(block, class, Kind::Noscan, Bytes(layout.size())) };
}

#[inline(never)]
fn allocate(layout: Layout, reading: Reading, zeroed: bool) -> Result<NonNull<u8>, Exhausted> {
    let Some(class) = SpanClass::for_request(layout.size(), layout.align(), reading.kind) else {
        return allocate_large(Bytes(layout.size()), layout.align(), reading, zeroed);
    };
    let zeroed = zeroed || reading.kind != Kind::Noscan;
    let mut held = Allocating::enter();
    loop {
        // SAFETY: the only reference in this section.
        let span = unsafe { held.cache() }.current(class);
        let place = match reading.kind {
            Kind::Precise => span.allocate_patterned(class, reading),
            Kind::Noscan | Kind::Ambiguous => span.allocate(span.slot_bytes()),
        };
        if let Some(place) = place {
            if zeroed && span.needs_zero() {
                // SAFETY: a fresh slot: a multiple of 8 bytes at a multiple of 8.
                unsafe { heap::zero(place, Bytes(class.usable_bytes())) };
            }
            return Ok(place);
        }
        held = refill(held, class, zeroed).ok_or_else(|| exhausted(class))?;
    }
}
