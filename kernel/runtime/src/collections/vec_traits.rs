//! What a Rust user expects of a vector besides its own methods.

use super::GcVec;
use crate::gc::{Gc, Noscan, Trace};
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::{Index, IndexMut};
use core::slice::SliceIndex;

/// Reserves what the iterator promises, once; grows by Go's rule beyond.
impl<T: Trace> Extend<T> for GcVec<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        let elements = elements.into_iter();
        self.reserve(elements.size_hint().0);
        elements.for_each(|element| self.push(element));
    }
}

impl<'a, T: Trace + Copy> Extend<&'a T> for GcVec<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        self.extend(elements.into_iter().copied());
    }
}

impl<T: Trace> FromIterator<T> for GcVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> GcVec<T> {
        let mut new = GcVec::new();
        new.extend(elements);
        new
    }
}

impl<T: Trace + 'static> FromIterator<T> for Gc<[T]> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Gc<[T]> {
        GcVec::from_iter(elements).into()
    }
}

impl<T: Trace + Clone> From<&[T]> for GcVec<T> {
    fn from(elements: &[T]) -> GcVec<T> {
        elements.iter().cloned().collect()
    }
}

impl<T: Trace, const N: usize> From<[T; N]> for GcVec<T> {
    fn from(elements: [T; N]) -> GcVec<T> {
        elements.into_iter().collect()
    }
}

impl<T: Trace> From<Vec<T>> for GcVec<T> {
    fn from(elements: Vec<T>) -> GcVec<T> {
        elements.into_iter().collect()
    }
}

impl<T: Trace + Clone> Clone for GcVec<T> {
    fn clone(&self) -> GcVec<T> {
        self.as_slice().into()
    }
}

impl<T: Trace> Default for GcVec<T> {
    fn default() -> GcVec<T> {
        GcVec::new()
    }
}

impl<T: Trace, I: SliceIndex<[T]>> Index<I> for GcVec<T> {
    type Output = I::Output;

    #[inline]
    fn index(&self, index: I) -> &I::Output {
        self.as_slice().index(index)
    }
}

impl<T: Noscan, I: SliceIndex<[T]>> IndexMut<I> for GcVec<T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut I::Output {
        (**self).index_mut(index)
    }
}

impl<T: Trace> AsRef<[T]> for GcVec<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Trace> Borrow<[T]> for GcVec<T> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<T: Trace + fmt::Debug> fmt::Debug for GcVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl<T: Trace + PartialEq<U>, U: Trace> PartialEq<GcVec<U>> for GcVec<T> {
    fn eq(&self, other: &GcVec<U>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Trace + PartialEq<U>, U> PartialEq<[U]> for GcVec<T> {
    fn eq(&self, other: &[U]) -> bool {
        self.as_slice() == other
    }
}

impl<T: Trace + PartialEq<U>, U> PartialEq<&[U]> for GcVec<T> {
    fn eq(&self, other: &&[U]) -> bool {
        self.as_slice() == *other
    }
}

impl<T: Trace + PartialEq<U>, U> PartialEq<Vec<U>> for GcVec<T> {
    fn eq(&self, other: &Vec<U>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Trace + PartialEq<U>, U, const N: usize> PartialEq<[U; N]> for GcVec<T> {
    fn eq(&self, other: &[U; N]) -> bool {
        self.as_slice() == other
    }
}

impl<T: Trace + Eq> Eq for GcVec<T> {}

impl<T: Trace + PartialOrd> PartialOrd for GcVec<T> {
    fn partial_cmp(&self, other: &GcVec<T>) -> Option<Ordering> {
        self.as_slice().partial_cmp(other)
    }
}

impl<T: Trace + Ord> Ord for GcVec<T> {
    fn cmp(&self, other: &GcVec<T>) -> Ordering {
        self.as_slice().cmp(other)
    }
}

impl<T: Trace + Hash> Hash for GcVec<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}
