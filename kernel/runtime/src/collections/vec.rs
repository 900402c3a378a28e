//! `GcVec<T>`: elements side by side, as many as come. Go: `[]T` and `append`.
//!
//! Invariant: behind the last element there are zero bytes up to the capacity, if elements may hold references: what
//! was taken out is kept no longer, and a collection may come at any time.
//!
//! Unsafe here: the elements' places.
#![allow(unsafe_code)]

use super::growth::next_capacity;
use crate::allocator::{self, Exhausted};
use crate::gc::trace::{Scan, Trace};
use crate::gc::{Gc, Noscan, typed_memory};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

/// A vector whose memory the collector reads by the type of its elements, and that grows as Go's `append` does. Three words.
///
/// Everything of a slice that only reads is there (`iter`, `get`, `first`, `binary_search`, `v[i]`, `v[1..]`). What
/// writes is here; an element is changed by [`set`](GcVec::set), never through a `&mut` (that of numbers may be: a
/// `GcVec<u64>` is a `&mut [u64]` too). Elements are dropped as those of a `Vec` are, but the last first; see the
/// room's head for what a collected object owns.
///
/// Indices out of bounds panic. Memory is asked for where it says *may grow*: a collection may come, and without memory the calling thread
/// ends, as in [`Gc::new`]; [`try_reserve`](GcVec::try_reserve) asks instead. Nothing blocks.
#[repr(C)]
pub struct GcVec<T: Trace> {
    elements: NonNull<T>,
    length: usize,
    capacity: usize,
    owns: PhantomData<T>,
}

// SAFETY: the first word leads to the elements' object (or nowhere, outside the heap); the others are numbers. It
// changes through `&mut` only.
unsafe impl<T: Trace> Trace for GcVec<T> {
    const SCAN: Scan = Scan::Precise(1);
    const SURE: bool = true;
}

// SAFETY: it owns its elements, as a `Vec` does.
unsafe impl<T: Trace + Send> Send for GcVec<T> {}
// SAFETY: as above.
unsafe impl<T: Trace + Sync> Sync for GcVec<T> {}

impl<T: Trace> GcVec<T> {
    /// Without elements, and without memory.
    pub const fn new() -> GcVec<T> {
        let capacity = if size_of::<T>() == 0 { usize::MAX } else { 0 };
        GcVec { elements: NonNull::dangling(), length: 0, capacity, owns: PhantomData }
    }

    /// With room for as many, or a few more. May grow. Go: `make([]T, 0, capacity)`.
    pub fn with_capacity(capacity: usize) -> GcVec<T> {
        let mut new = GcVec::new();
        new.reserve(capacity);
        new
    }

    /// How many elements there is memory for. Go: `cap`.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// Room for so many more, at once. May grow, by Go's rule: doubled if that is enough and there were less than 256,
    /// later about 1.25 times as much, and what the memory's size class has beyond that. Go: `slices.Grow`.
    pub fn reserve(&mut self, additional: usize) {
        self.try_reserve(additional).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted));
    }

    /// [`reserve`](GcVec::reserve) that gives an error when there is no memory even after a collection.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), Exhausted> {
        if additional <= self.capacity - self.length { Ok(()) } else { self.grow(additional) }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, additional: usize) -> Result<(), Exhausted> {
        let needed = self.length.checked_add(additional).ok_or_else(allocator::too_long)?;
        let capacity = allocator::usable::<T>(next_capacity(needed, self.capacity));
        let elements = allocator::new_slice(capacity, false)?;
        // SAFETY: room for more than there are; the old places are given up.
        unsafe {
            typed_memory::copy(self.elements, elements, self.length);
            allocator::free_slice(self.elements, self.capacity);
        }
        (self.elements, self.capacity) = (elements, capacity);
        Ok(())
    }

    /// # Safety
    /// Not past the capacity.
    #[inline(always)]
    unsafe fn place(&self, index: usize) -> NonNull<T> {
        // SAFETY: the caller's promise; all of it is one object.
        unsafe { self.elements.add(index) }
    }

    /// Puts an element behind the last one. May grow; amortised O(1). Go: `append(v, value)`.
    #[inline]
    pub fn push(&mut self, value: T) {
        if self.length == self.capacity {
            self.reserve(1);
        }
        // SAFETY: there is room for one more.
        unsafe { typed_memory::store(self.place(self.length), value) };
        self.length += 1;
    }

    /// Takes the last element out. O(1).
    pub fn pop(&mut self) -> Option<T> {
        self.length = self.length.checked_sub(1)?;
        // SAFETY: it was an element, and is none any more.
        Some(unsafe { self.take(self.length) })
    }

    /// Moves an element out and clears its place.
    ///
    /// # Safety
    /// There is one, which is not counted any more.
    pub(super) unsafe fn take(&mut self, index: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe {
            let value = self.place(index).read();
            typed_memory::clear(self.place(index), 1);
            value
        }
    }

    /// Changes an element; the old one is dropped. O(1). Go: `v[index] = value`.
    #[inline]
    pub fn set(&mut self, index: usize, value: T) {
        drop(self.replace(index, value));
    }

    /// Changes an element and returns the old one. O(1).
    #[inline]
    pub fn replace(&mut self, index: usize, value: T) -> T {
        assert!(index < self.length, "index {index} of a GcVec of length {}", self.length);
        // SAFETY: the index of an element.
        unsafe {
            let old = self.place(index).read();
            typed_memory::store(self.place(index), value);
            old
        }
    }

    /// Exchanges two elements. O(1).
    pub fn swap(&mut self, a: usize, b: usize) {
        assert!(a < self.length && b < self.length, "indices {a} and {b} of a GcVec of length {}", self.length);
        // SAFETY: the indices of elements; `first` is put back before anybody else runs.
        unsafe {
            let (first, second) = (self.place(a).read(), self.place(b).read());
            typed_memory::store(self.place(a), second);
            typed_memory::store(self.place(b), first);
        }
    }

    /// Puts an element at `index`, which may be just behind the last, and moves all from there on. May grow; O(n). Go: `slices.Insert`.
    pub fn insert(&mut self, index: usize, value: T) {
        assert!(index <= self.length, "index {index} to insert at in a GcVec of length {}", self.length);
        self.reserve(1);
        // SAFETY: there is room for one more.
        unsafe {
            typed_memory::copy(self.place(index), self.place(index + 1), self.length - index);
            typed_memory::store(self.place(index), value);
        }
        self.length += 1;
    }

    /// Takes an element out and moves up what is behind it. O(n). Go: `slices.Delete`.
    pub fn remove(&mut self, index: usize) -> T {
        assert!(index < self.length, "index {index} of a GcVec of length {}", self.length);
        self.length -= 1;
        // SAFETY: the index of an element; the last place is empty then.
        unsafe {
            let value = self.place(index).read();
            typed_memory::copy(self.place(index + 1), self.place(index), self.length - index);
            typed_memory::clear(self.place(self.length), 1);
            value
        }
    }

    /// Takes an element out and puts the last in its place. O(1).
    pub fn swap_remove(&mut self, index: usize) -> T {
        assert!(index < self.length, "index {index} of a GcVec of length {}", self.length);
        self.swap(index, self.length - 1);
        self.pop().expect("an element that is there")
    }

    /// Drops what is behind the first `length` elements, the last first. The capacity stays. O(dropped).
    pub fn truncate(&mut self, length: usize) {
        if mem::needs_drop::<T>() {
            // One by one: a destructor may collect, and must not leave a dropped element where the collector looks.
            while self.length > length {
                drop(self.pop());
            }
        } else if let Some(fewer) = self.length.checked_sub(length) {
            self.length = length;
            // SAFETY: elements that are none any more.
            unsafe { typed_memory::clear(self.place(length), fewer) };
        }
    }

    /// Drops all elements, the last first. The capacity stays. Go: `v[:0]`, and `clear` before.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Drops the elements of which `keep` does not say `true`, each before it asks about the next; the others stay in order, and so do
    /// those that a panic leaves unasked. O(n).
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        /// The first `kept` elements of a vector of this `length`, and those from `next` on; it counts none of them.
        struct Gap<'a, T: Trace> {
            vector: &'a mut GcVec<T>,
            kept: usize,
            next: usize,
            length: usize,
        }

        impl<T: Trace> Drop for Gap<'_, T> {
            fn drop(&mut self) {
                let length = self.kept + (self.length - self.next);
                // SAFETY: elements that move up to the others; the places behind them are empty then.
                unsafe {
                    typed_memory::copy(self.vector.place(self.next), self.vector.place(self.kept), length - self.kept);
                    typed_memory::clear(self.vector.place(length), self.length - length);
                }
                self.vector.length = length;
            }
        }

        let mut gap = Gap { length: self.uncount(), vector: self, kept: 0, next: 0 };
        while gap.next < gap.length {
            let index = gap.next;
            // SAFETY: an element.
            let stays = keep(unsafe { gap.vector.place(index).as_ref() });
            gap.next += 1;
            if stays {
                // SAFETY: it moves to the place behind those kept, which is free or its own.
                unsafe { typed_memory::copy(gap.vector.place(index), gap.vector.place(gap.kept), 1) };
                gap.kept += 1;
            } else {
                // SAFETY: it is none any more.
                drop(unsafe { gap.vector.take(index) });
            }
        }
    }

    /// Sorts; equal elements may change places. O(n log n), no memory. Go: `slices.SortFunc`.
    pub fn sort_unstable_by(&mut self, compare: impl FnMut(&T, &T) -> core::cmp::Ordering) {
        // SAFETY: the elements; sorting only changes their order, even if `compare` panics.
        unsafe { typed_memory::rearrange(self.elements, self.length, |elements| elements.sort_unstable_by(compare)) };
    }

    /// Copies of all `elements` behind the last. May grow, once. Go: `append(v, elements...)`.
    pub fn extend_from_slice(&mut self, elements: &[T])
    where
        T: Clone,
    {
        self.extend(elements.iter().cloned());
    }

    /// The places and their number, now the caller's.
    fn into_parts(self) -> (NonNull<T>, usize) {
        let this = ManuallyDrop::new(self);
        (this.elements, this.length)
    }

    /// How many there were: none is counted any more, and [`take`](GcVec::take) takes them one by one.
    pub(super) fn uncount(&mut self) -> usize {
        mem::take(&mut self.length)
    }
}

impl<T: Noscan + Copy> GcVec<T> {
    /// [`extend_from_slice`](GcVec::extend_from_slice) of what is copied as bytes.
    pub(super) fn append(&mut self, elements: &[T]) {
        self.reserve(elements.len());
        // SAFETY: there is room for as many, in an object that nobody else has borrowed.
        unsafe { typed_memory::copy(NonNull::from(elements).cast(), self.place(self.length), elements.len()) };
        self.length += elements.len();
    }
}

impl<T: Trace> Drop for GcVec<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>() {
            self.truncate(0);
        }
        // SAFETY: nobody has a reference to the elements of what is dropped.
        unsafe { allocator::free_slice(self.elements, self.capacity) };
    }
}

impl<T: Trace> Deref for GcVec<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: so many elements are there, and nobody changes them while this is borrowed.
        unsafe { slice::from_raw_parts(self.elements.as_ptr(), self.length) }
    }
}

/// Numbers may be written by anyone: the collector never reads them.
impl<T: Noscan> DerefMut for GcVec<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; this is borrowed for good.
        unsafe { slice::from_raw_parts_mut(self.elements.as_ptr(), self.length) }
    }
}

/// Nothing is copied: the elements stay where they are, and so does room that they do not fill.
impl<T: Trace + 'static> From<GcVec<T>> for Gc<[T]> {
    fn from(elements: GcVec<T>) -> Gc<[T]> {
        let (elements, length) = elements.into_parts();
        // SAFETY: so many elements, in one object that was the vector's alone.
        unsafe { Gc::from_elements(elements, length) }
    }
}
