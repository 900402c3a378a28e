//! A `GcVec` that gives its elements away one by one.
//!
//! Unsafe here: taking elements out of their places.
#![allow(unsafe_code)]

use super::GcVec;
use crate::gc::Trace;
use core::iter::FusedIterator;
use core::ops::Range;

/// The elements of a [`GcVec`], moved out. Those that nobody takes are dropped with it.
pub struct IntoIter<T: Trace> {
    places: GcVec<T>,
    left: Range<usize>,
}

impl<T: Trace> IntoIterator for GcVec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(mut self) -> IntoIter<T> {
        let left = 0..self.uncount();
        IntoIter { places: self, left }
    }
}

impl<'a, T: Trace> IntoIterator for &'a GcVec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Trace> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let index = self.left.next()?;
        // SAFETY: an element that is still there: `left` gives each index once.
        Some(unsafe { self.places.take(index) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: Trace> DoubleEndedIterator for IntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        // SAFETY: as above.
        Some(unsafe { self.places.take(index) })
    }
}

impl<T: Trace> ExactSizeIterator for IntoIter<T> {}
impl<T: Trace> FusedIterator for IntoIter<T> {}

impl<T: Trace> Drop for IntoIter<T> {
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            self.for_each(drop);
        }
    }
}

// SAFETY: one word leads to the elements' object; the others are numbers.
unsafe impl<T: Trace> Trace for IntoIter<T> {
    const SCAN: crate::Scan = crate::Scan::of_fields(
        size_of::<Self>(),
        &[(core::mem::offset_of!(IntoIter<T>, places), <GcVec<T> as Trace>::SCAN)],
    );
    const SURE: bool = true;
}
