//! Writing to memory that the collector reads by type: the one place where a write barrier can stand for the elements of slices and
//! collections, as [`GcCell::set`](crate::GcCell::set) is for cells. Go: `typedmemmove`, `typedmemclr` in mbarrier.go.
//!
//! This collector marks in one stop of the world, so there is no barrier yet. A concurrent one shades what is stored
//! (after the store, as in cell.rs), for elements whose type is not noscan.
//!
//! Unsafe here: the callers' places.
#![allow(unsafe_code)]

use super::trace::{Scan, Trace};
use core::ptr::NonNull;

/// Moves a value into its place, which need not hold one yet. What was there is not dropped.
///
/// # Safety
/// The place is the caller's to write.
#[inline(always)]
pub(crate) unsafe fn store<T: Trace>(place: NonNull<T>, value: T) {
    // SAFETY: the caller's promise.
    unsafe { place.write(value) };
}

/// Moves `count` values; the places may overlap.
///
/// # Safety
/// The values are there, both places are the caller's, and what was at `from` is a value no longer.
#[inline]
pub(crate) unsafe fn copy<T: Trace>(from: NonNull<T>, to: NonNull<T>, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { from.copy_to(to, count) };
}

/// Makes `count` places refer to nothing, lest they keep what was moved out of them or dropped.
///
/// # Safety
/// The places are the caller's, and hold no values any more.
#[inline]
pub(crate) unsafe fn clear<T: Trace>(place: NonNull<T>, count: usize) {
    if !matches!(T::SCAN, Scan::Noscan) {
        // SAFETY: the caller's promise.
        unsafe { place.write_bytes(0, count) };
    }
}

/// Gives `count` values to `rearrange`, to change their order and nothing else. (They stay in one object; but a part of that may have been
/// looked at already: a barrier shades them all.)
///
/// # Safety
/// The values are there and the caller's, and afterwards they are the same ones.
#[inline]
pub(crate) unsafe fn rearrange<T: Trace>(place: NonNull<T>, count: usize, rearrange: impl FnOnce(&mut [T])) {
    // SAFETY: the caller's promise.
    rearrange(unsafe { NonNull::slice_from_raw_parts(place, count).as_mut() });
}
