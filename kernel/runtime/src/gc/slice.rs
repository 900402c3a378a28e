//! `Gc<[T]>`: an object of as many elements as was known when it was made. Go: a slice that is never appended to.
//!
//! Unsafe here: elements are written into fresh memory.
#![allow(unsafe_code)]

use super::handle::Gc;
use super::trace::Trace;
use super::typed_memory;
use super::zeroable::Zeroable;
use crate::allocator::{self, Exhausted};
use alloc::vec::Vec;
use core::ptr::NonNull;

impl<T: Trace + 'static> Gc<[T]> {
    /// `length` elements, each what `element` says of its index. Go: `make([]T, length)` and a loop.
    ///
    /// Elements that hold no references are never read by the collector; of others it reads the words that their type names, be there
    /// millions. It runs no drop glue, as always.
    ///
    /// Cost: a span of its own above 32 KiB, else as [`Gc::new`]; memory for references is cleared first. Does not block. If `element`
    /// panics, those made already are garbage. Out of memory: as [`Gc::new`].
    pub fn from_fn(length: usize, element: impl FnMut(usize) -> T) -> Gc<[T]> {
        Gc::try_from_fn(length, element).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted))
    }

    /// [`Gc::from_fn`] that gives an error when there is no memory even after a collection.
    pub fn try_from_fn(length: usize, mut element: impl FnMut(usize) -> T) -> Result<Gc<[T]>, Exhausted> {
        let elements = allocator::new_slice::<T>(length, false)?;
        for index in 0..length {
            // SAFETY: there is room for `length`, and nobody else has the object yet.
            unsafe { typed_memory::store(elements.add(index), element(index)) };
        }
        // SAFETY: all elements are there.
        Ok(unsafe { Gc::from_elements(elements, length) })
    }
}

impl<T: Zeroable + 'static> Gc<[T]> {
    /// `length` elements of all zero bytes. Go: `make([]T, length)`. Otherwise as [`Gc::from_fn`].
    pub fn zeroed_slice(length: usize) -> Gc<[T]> {
        Gc::try_zeroed_slice(length).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted))
    }

    /// [`Gc::zeroed_slice`] that gives an error when there is no memory even after a collection.
    pub fn try_zeroed_slice(length: usize) -> Result<Gc<[T]>, Exhausted> {
        let elements = allocator::new_slice::<T>(length, true)?;
        // SAFETY: zero bytes are values of `T`.
        Ok(unsafe { Gc::from_elements(elements, length) })
    }
}

impl<T> Gc<[T]> {
    /// # Safety
    /// The elements are there, in one object of the heap; nobody changes them any more but through their own cells.
    pub(crate) unsafe fn from_elements(elements: NonNull<T>, length: usize) -> Gc<[T]> {
        // SAFETY: the caller's promise.
        unsafe { Gc::from_object(NonNull::slice_from_raw_parts(elements, length)) }
    }
}

impl<T: Trace + Clone + 'static> From<&[T]> for Gc<[T]> {
    fn from(elements: &[T]) -> Gc<[T]> {
        Gc::from_fn(elements.len(), |index| elements[index].clone())
    }
}

/// Moves the elements; the vector's own memory is free at once.
impl<T: Trace + 'static> From<Vec<T>> for Gc<[T]> {
    fn from(mut elements: Vec<T>) -> Gc<[T]> {
        let length = elements.len();
        let moved =
            allocator::new_slice::<T>(length, false).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted));
        // SAFETY: room for as many, disjoint; the vector forgets them.
        unsafe {
            typed_memory::copy(NonNull::new_unchecked(elements.as_mut_ptr()), moved, length);
            elements.set_len(0);
            Gc::from_elements(moved, length)
        }
    }
}

/// A string that does not change. Go: `string`. Never read by the collector.
impl From<&str> for Gc<str> {
    fn from(text: &str) -> Gc<str> {
        // SAFETY: the bytes of a string, copied.
        unsafe { Gc::from_utf8_unchecked(text.as_bytes().into()) }
    }
}

impl Gc<str> {
    /// # Safety
    /// The bytes are UTF-8.
    pub(crate) unsafe fn from_utf8_unchecked(bytes: Gc<[u8]>) -> Gc<str> {
        // SAFETY: a handle's address is not null, and it is an object's.
        unsafe { Gc::from_object(NonNull::new_unchecked(Gc::as_ptr(bytes).cast_mut() as *mut str)) }
    }
}
