//! `GcCell<T>`: one word of an object that changes, a `Gc` or none. Go: a pointer field, and the barrier at its store.
//!
//! Beside the elements of a collection (typed_memory.rs) the only mutable place that a precise object may have, for it is where a write
//! barrier can stand. This collector marks in one stop of the world, so the barrier is empty. A concurrent one puts it *after* the store: a
//! stop between a test of the phase and the store would lose the object, one between the store and the test does not.
//!
//! Unsafe here: a handle is read as the pointer it is, and back.
#![allow(unsafe_code)]

use super::handle::Gc;
use super::trace::{Scan, Trace};
use core::fmt;
use core::marker::PhantomData;
use core::mem::transmute_copy;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What a [`GcCell`] holds: `Gc<U>` or `Option<Gc<U>>`. Sealed.
///
/// # Safety
/// The type is one word: the pointer to a `Target`, null for nothing if it may be nothing.
pub unsafe trait Reference: sealed::Sealed + Copy {
    type Target;
}

mod sealed {
    pub trait Sealed {}
    impl<U> Sealed for super::Gc<U> {}
    impl<U> Sealed for Option<super::Gc<U>> {}
}

// SAFETY: `Gc` is a `NonNull` and a field of no size.
unsafe impl<U> Reference for Gc<U> {
    type Target = U;
}

// SAFETY: `NonNull`'s niche makes `None` the null pointer.
unsafe impl<U> Reference for Option<Gc<U>> {
    type Target = U;
}

/// A word that holds a `Gc<U>` or an `Option<Gc<U>>` and may be set through a shared reference, by any thread if `U: Send + Sync`.
///
/// Its constructors are constant, so a `static` may be one: such a static is a root.
///
/// The handle of a slice or a `dyn` object has two words, which no processor stores at once: it cannot be held. Let the cell hold an object
/// that has the handle in it (`GcCell<Gc<Gc<[T]>>>`), as Go's `atomic.Pointer[[]T]` does.
#[repr(C, align(8))]
pub struct GcCell<T: Reference>(AtomicPtr<T::Target>, PhantomData<T>);

// SAFETY: the cell is one word, and that word is the reference.
unsafe impl<T: Reference> Trace for GcCell<T> {
    const SCAN: Scan = Scan::Precise(1);
    const SURE: bool = true;
}

impl<U> GcCell<Option<Gc<U>>> {
    /// A cell that holds nothing.
    pub const fn null() -> Self {
        GcCell(AtomicPtr::new(null_mut()), PhantomData)
    }
}

impl<T: Reference> GcCell<T> {
    pub const fn new(value: T) -> Self {
        GcCell(AtomicPtr::new(pointer(&value)), PhantomData)
    }

    /// What the cell holds (acquire: all that its writer wrote before [`set`](GcCell::set) is seen). One load.
    pub fn get(&self) -> T {
        // SAFETY: only values of `T` are stored.
        unsafe { reference(self.0.load(Ordering::Acquire)) }
    }

    /// Stores `value` (release). One store while nothing is being marked.
    pub fn set(&self, value: T) {
        self.0.store(pointer(&value), Ordering::Release);
    }

    /// Stores `value` and returns what was there.
    pub fn swap(&self, value: T) -> T {
        // SAFETY: only values of `T` are stored.
        unsafe { reference(self.0.swap(pointer(&value), Ordering::AcqRel)) }
    }

    /// Stores `new` if the cell holds `old` (the same object, or both nothing); the error is what it holds instead.
    pub fn compare_exchange(&self, old: T, new: T) -> Result<(), T> {
        match self.0.compare_exchange(pointer(&old), pointer(&new), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            // SAFETY: only values of `T` are stored.
            Err(other) => Err(unsafe { reference(other) }),
        }
    }
}

const fn pointer<T: Reference>(value: &T) -> *mut T::Target {
    // SAFETY: `Reference`: a `T` is one pointer, possibly null.
    unsafe { transmute_copy(value) }
}

/// # Safety
/// `pointer` came from [`pointer`] of a `T`.
unsafe fn reference<T: Reference>(pointer: *mut T::Target) -> T {
    // SAFETY: the caller's promise: these are the bits of a `T`.
    unsafe { transmute_copy(&pointer) }
}

impl<T: Reference + fmt::Debug> fmt::Debug for GcCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GcCell").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaked<T>(value: T) -> Gc<T> {
        // SAFETY: a leaked box is a live object for ever.
        unsafe { reference(alloc::boxed::Box::into_raw(alloc::boxed::Box::new(value))) }
    }

    #[test]
    fn a_cell_gives_back_what_was_set() {
        let (one, two) = (leaked(1), leaked(2));
        let cell = GcCell::new(one);
        assert_eq!(*cell.get(), 1);
        cell.set(two);
        assert_eq!((*cell.swap(one), *cell.get()), (2, 1));
        assert!(cell.compare_exchange(two, two).is_err_and(|held| Gc::ptr_eq(held, one)));
        assert!(cell.compare_exchange(one, two).is_ok());
        assert!(Gc::ptr_eq(cell.get(), two));
    }

    #[test]
    fn an_empty_cell_is_one_null_word_and_can_be_a_static() {
        static CELL: GcCell<Option<Gc<u32>>> = GcCell::null();
        assert_eq!((size_of::<GcCell<Option<Gc<u32>>>>(), size_of::<Option<Gc<u32>>>()), (8, 8));
        assert!(CELL.get().is_none());
        CELL.set(Some(leaked(7)));
        assert_eq!(CELL.get().map(|number| *number), Some(7));
        CELL.set(None);
        assert!(CELL.get().is_none() && CELL.0.load(Ordering::Relaxed).is_null());
    }
}
