//! `Gc<T>`: a handle to a collected object, one word, copied freely. Go: an ordinary pointer. Those of slices
//! (slice.rs) and of `dyn Trait` are two words, as references to them are: where it is, and its length or its methods.
//!
//! It is a root wherever it lies where the collector looks: on a stack, in a register, in a static, in a thread's record, in
//! another object; but not between two words, in a packed struct, where no scan would see it. A kernel with such a type in it is not booted
//! (boot/src/hidden.rs). (The lint `aligned_fields_in_packed` would see some of them if this were `repr(C, align(8))`, as `GcCell` is; but
//! the compiler, 1.101, passes that in memory, and then cannot unsize it.)
//!
//! Unsafe here: dereferencing, which is sound because an object lives as long as a handle to it is found.
#![allow(unsafe_code)]

use super::trace::{Scan, Trace};
use super::zeroable::Zeroable;
use crate::allocator::{self, Exhausted};
use core::fmt;
use core::marker::{PhantomData, Unsize};
use core::ops::{CoerceUnsized, Deref};
use core::ptr::{self, NonNull};

/// A reference to an object that the collector keeps for as long as it can be reached. `Copy`; `Option<Gc<T>>` is one word too.
///
/// The object is shared and never moves. What shall change in it is a [`GcCell`](crate::GcCell), an atomic, or a cell of core's (which
/// makes the object ambiguous).
///
/// `Gc<dyn Trait>` (Go: an interface with a pointer in it) comes from a `Gc<T>` where it is expected, as with `Box`;
/// `Gc<[T; N]>` becomes a `Gc<[T]>` so. They have two words, so no [`GcCell`](crate::GcCell) holds one; an object that
/// does may be held by one: `Gc<Gc<dyn Trait>>`.
///
/// A packed struct with one in it derives no `Trace`, and no kernel that has it is booted:
/// ```compile_fail
/// #[derive(runtime::Trace)]
/// #[repr(C, packed)]
/// struct Hidden(u8, u64);
/// ```
pub struct Gc<T: ?Sized>(NonNull<T>, PhantomData<T>);

// SAFETY: the handle's first word is the reference (the tests below see to it); a second is a number, or leads into the image.
unsafe impl<T: ?Sized> Trace for Gc<T> {
    const SCAN: Scan = Scan::Precise(1);
    const SURE: bool = true;
}

/// `Gc<T>` to `Gc<dyn Trait>`, `Gc<[T; N]>` to `Gc<[T]>`.
impl<T: ?Sized + Unsize<U>, U: ?Sized> CoerceUnsized<Gc<U>> for Gc<T> {}

// SAFETY: a handle gives `&T` and copies of itself to whoever has it, as `&T` and `Arc<T>` do; the same bound serves.
unsafe impl<T: ?Sized + Send + Sync> Send for Gc<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for Gc<T> {}

impl<T: Trace + 'static> Gc<T> {
    /// Moves `value` to the collected heap. Go: `new`, or a literal that escapes.
    ///
    /// The collector runs **no drop glue**: a dead object's memory is used again and its `Drop` is never called. What it owns
    /// in the heap (a `Vec`, a `Box`) is found dead by the same collection. A value of size zero takes no memory.
    ///
    /// Cost: some 20 instructions from the CPU's cache; a span when that is empty; now and then a collection. Does not block.
    ///
    /// When there is no memory even after a collection, the calling thread ends with an out-of-memory error at its
    /// `JoinHandle`; the main thread takes the kernel with it, status 2. [`Gc::try_new`] asks instead.
    // Else the value is made on the caller's stack and copied, wherever there are two callers.
    #[inline(always)]
    pub fn new(value: T) -> Gc<T> {
        match Gc::try_new(value) {
            Ok(object) => object,
            Err(exhausted) => allocator::out_of_memory(exhausted),
        }
    }

    /// [`Gc::new`] that gives an error when there is no memory even after a collection. The value is lost then.
    #[inline(always)]
    pub fn try_new(value: T) -> Result<Gc<T>, Exhausted> {
        if size_of::<T>() == 0 {
            // Nothing is ever read through it, and the collector finds no span at so low an address.
            core::mem::forget(value);
            return Ok(Gc(NonNull::dangling(), PhantomData));
        }
        Ok(Gc(allocator::new_object(value)?, PhantomData))
    }
}

impl<T: Trace + 'static> Gc<T> {
    /// Frees the object now, for the next allocation; without it the collector does, some time after the last use. Go: `runtime.freegc`,
    /// which only the compiler calls.
    ///
    /// Runs no drop glue. A tiny object, of fewer than 16 bytes without references, is left to the collector: others may share its slot.
    /// One whose span this CPU allocates from no more makes room there, for who takes the span next. Cost: some 30 instructions, twice as
    /// many in such a span; a lock for a large object.
    ///
    /// What is no living object of this type's size, or has been freed before, is fatal. Not seen: that it was freed,
    /// and its memory given out again as an object of the same size.
    ///
    /// # Safety
    /// Nobody uses the object again, by this handle or any copy of it or by a reference.
    pub unsafe fn free(object: Gc<T>) {
        // SAFETY: the caller's promise.
        unsafe { allocator::free_typed(object.0) }
    }
}

impl<T: Zeroable + 'static> Gc<T> {
    /// A new object of all zero bytes. For what is too large to be made on a stack and moved: `Gc::<[u8; 1 << 20]>::zeroed()` is Go's
    /// `new([1 << 20]byte)`. Otherwise as [`Gc::new`]; memory is cleared at 2 to 5 GB/s under QEMU.
    pub fn zeroed() -> Gc<T> {
        match Gc::try_zeroed() {
            Ok(object) => object,
            Err(exhausted) => allocator::out_of_memory(exhausted),
        }
    }

    /// [`Gc::zeroed`] that gives an error when there is no memory even after a collection.
    pub fn try_zeroed() -> Result<Gc<T>, Exhausted> {
        let object = if size_of::<T>() == 0 { NonNull::dangling() } else { allocator::new_zeroed()? };
        Ok(Gc(object, PhantomData))
    }
}

impl<T: ?Sized> Gc<T> {
    /// Whether both lead to the same object. All objects of size zero are one.
    pub fn ptr_eq(a: Gc<T>, b: Gc<T>) -> bool {
        ptr::addr_eq(a.0.as_ptr(), b.0.as_ptr())
    }

    /// The object's address. It keeps the object only while it lies, as it is, where the collector looks.
    pub const fn as_ptr(object: Gc<T>) -> *const T {
        object.0.as_ptr()
    }

    /// # Safety
    /// It is an object of the heap, or of no size, whole and shared by handles only.
    pub(crate) unsafe fn from_object(object: NonNull<T>) -> Gc<T> {
        Gc(object, PhantomData)
    }
}

impl<T: ?Sized> Clone for Gc<T> {
    fn clone(&self) -> Gc<T> {
        *self
    }
}

impl<T: ?Sized> Copy for Gc<T> {}

impl<T: ?Sized> Deref for Gc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: 1. `new` initialised the object and nothing writes to it but through its own cells. 2. This handle is somewhere
        // that the collector looks, so the object is kept; the reference that goes out is a word of the same kind.
        unsafe { self.0.as_ref() }
    }
}

/// The address only: objects may form rings.
impl<T: ?Sized> fmt::Debug for Gc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gc({:p})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_every_handle_is_where_the_object_is() {
        fn words<T: ?Sized>(object: &T) -> [usize; 2] {
            let handle: Gc<T> = Gc(NonNull::from(object), PhantomData);
            assert_eq!(size_of_val(&handle), 16);
            // SAFETY: two words, asserted; a pointer's bits are a number's.
            unsafe { core::mem::transmute_copy(&handle) }
        }
        let array = [7u64; 5];
        assert_eq!(words::<[u64]>(&array), [array.as_ptr().addr(), 5]);
        assert_eq!(words::<dyn fmt::Debug>(&array)[0], array.as_ptr().addr());
        assert_eq!(words::<str>("text")[1], 4);
    }
}
