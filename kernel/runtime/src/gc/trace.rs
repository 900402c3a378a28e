//! Which words of a value may be references, as a constant of its type. Go: type..gcdata, the pointer mask of `abi.Type`.
//!
//! A mark is only ever *may hold a reference*: variants of an enum share words, so the marker looks every marked word up in
//! the span tables before it believes it. An answer that says too much costs time and keeps a dead object; an answer that
//! says too little frees a living one. So everything unknown is [`Scan::Ambiguous`], and [`Scan::Noscan`] is a closed
//! list.
//!
//! Unsafe here: `unsafe impl Trace`, each for one of core's or alloc's own types.
#![allow(unsafe_code)]

pub use crate::heap::Pattern;

use crate::heap::{Kind, Reading};
use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, LinkedList, VecDeque};
use alloc::rc::{self, Rc};
use alloc::string::String;
use alloc::sync::{self, Arc};
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use core::marker::{PhantomData, PhantomPinned};
use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::num::{NonZero, Wrapping};
use core::pin::Pin;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};

/// The collector reads memory by these.
pub const WORD_BYTES: usize = size_of::<usize>();

/// How the collector reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Not at all: it holds no reference.
    Noscan,
    /// Only the words whose bit is set (bit i: the word at byte offset 8·i). Never empty. Up to 512 bytes.
    Precise(u64),
    /// Of a type over 512 bytes: only the words of a mask of up to 64 words, which is repeated.
    Repeated(Pattern),
    /// Every aligned word may be a reference. Types over 512 bytes are read so too if no [`Pattern`] says where their references are:
    /// it can of an array by its element, and if all lie within 512 bytes.
    Ambiguous,
}

impl Scan {
    /// Of a type of `size` bytes from its fields, each with its byte offset; fields may overlap (the variants of an enum).
    ///
    /// # Panics
    /// A reference at an offset that is no multiple of 8, for no scan by words would find it. In a constant: a compile error.
    pub const fn of_fields(size: usize, fields: &[(usize, Scan)]) -> Scan {
        let mut all: Option<Pattern> = None;
        let mut ambiguous = false;
        let mut next = 0;
        while next < fields.len() {
            let (offset, scan) = fields[next];
            if let Some(pattern) = scan.pattern() {
                assert!(offset.is_multiple_of(WORD_BYTES), "a reference must be aligned to a word");
                let pattern = pattern.after(offset / WORD_BYTES);
                let union = match all {
                    Some(all) => all.union(pattern),
                    None => Some(pattern),
                };
                ambiguous |= union.is_none();
                all = union;
            }
            ambiguous |= matches!(scan, Scan::Ambiguous);
            next += 1;
        }
        match all {
            _ if size == 0 => Scan::Noscan,
            _ if ambiguous => Scan::Ambiguous,
            None => Scan::Noscan,
            Some(pattern) => pattern.of_type(size),
        }
    }

    /// Of `count` values of `size` bytes side by side.
    const fn of_array(size: usize, count: usize, element: Scan) -> Scan {
        if size * count == 0 {
            return Scan::Noscan;
        }
        let words = size / WORD_BYTES;
        let all = match element {
            Scan::Noscan | Scan::Ambiguous => return element,
            Scan::Precise(mask) => Some(Pattern::of_elements(words, mask, count)),
            Scan::Repeated(pattern) => pattern.repeated(words, count),
        };
        match all {
            Some(pattern) => pattern.of_type(size * count),
            None => Scan::Ambiguous,
        }
    }

    /// Of values of `size` bytes side by side, as many as there is room for; never [`Precise`](Scan::Precise).
    pub(crate) const fn of_slice(size: usize, element: Scan) -> Scan {
        let words = size / WORD_BYTES;
        let all = match element {
            Scan::Noscan | Scan::Ambiguous => return element,
            Scan::Precise(mask) => Some(Pattern::of_elements(words, mask, 1)),
            Scan::Repeated(pattern) => pattern.repeated(words, 2),
        };
        match all {
            Some(pattern) => Scan::Repeated(pattern.to_the_end()),
            None => Scan::Ambiguous,
        }
    }

    /// The same as a pattern, if there is one.
    const fn pattern(self) -> Option<Pattern> {
        match self {
            Scan::Precise(mask) => Some(Pattern::of_words(0, mask)),
            Scan::Repeated(pattern) => Some(pattern),
            Scan::Noscan | Scan::Ambiguous => None,
        }
    }

    /// Of a cell that is written without a barrier: the collector must read it again, as it does all ambiguous memory.
    const fn in_cell(self) -> Scan {
        match self {
            Scan::Noscan => Scan::Noscan,
            _ => Scan::Ambiguous,
        }
    }
}

impl Pattern {
    /// How a type of `size` bytes is read whose references these are.
    const fn of_type(self, size: usize) -> Scan {
        match self.window(0) {
            Some(mask) if size <= u64::BITS as usize * WORD_BYTES => Scan::Precise(mask),
            _ => Scan::Repeated(self),
        }
    }
}

/// A type that says where its references are. Written by `#[derive(Trace)]`.
///
/// # Safety
/// [`SCAN`](Trace::SCAN) covers every word that may hold a reference into the collected heap: a [`Gc`](crate::Gc), or any
/// pointer to memory of the global allocator. Words that change through `&self` other than by a
/// [`GcCell`](crate::GcCell) make it [`Scan::Ambiguous`]. When in doubt, `Ambiguous` is always right.
pub unsafe trait Trace {
    /// How the collector reads a value of this type.
    const SCAN: Scan;

    /// Whether every word that [`SCAN`](Trace::SCAN) names is null or a live [`Gc`](crate::Gc) whenever a value is in place: not so where
    /// variants share words. The collector takes such a word that leads to free memory for a bug (`GODEBUG=invalidptr=1`).
    const SURE: bool = matches!(Self::SCAN, Scan::Noscan);
}

/// What the heap is told of a type's objects.
pub(crate) trait Readings: Trace + Sized {
    const OBJECT: Reading = reading(&const { Self::SCAN }, Self::SURE);
    /// Of as many values side by side as there is room for.
    const SLICE: Reading = reading(&const { Scan::of_slice(size_of::<Self>(), Self::SCAN) }, Self::SURE);
}

impl<T: Trace> Readings for T {}

const fn reading(scan: &'static Scan, sure: bool) -> Reading {
    match scan {
        Scan::Noscan => Reading::of_block(Kind::Noscan),
        // The mask goes into the span.
        Scan::Precise(_) => Reading { kind: Kind::Precise, sure, ..Reading::of_block(Kind::Ambiguous) },
        Scan::Repeated(pattern) => Reading { kind: Kind::Precise, pattern, sure },
        Scan::Ambiguous => Reading::of_block(Kind::Ambiguous),
    }
}

/// `<Probe<T>>::SCAN` is `T::SCAN` where `T: Trace` is known and [`Scan::Ambiguous`] where it is not. For the derive.
///
/// An inherent constant hides a trait's of the same name, and the compiler passes over the inherent one where its bound
/// does not hold: the choice is made where the derive stands, for generics by what their bounds say.
pub struct Probe<T>(PhantomData<T>);

impl<T: Trace> Probe<T> {
    pub const SCAN: Scan = T::SCAN;
    pub const SURE: bool = T::SURE;
}

/// The other half of [`Probe`]: what is said of a type that says nothing.
pub trait Unlisted {
    const SCAN: Scan;
    const SURE: bool = false;
}

impl<T> Unlisted for Probe<T> {
    const SCAN: Scan = if size_of::<T>() == 0 { Scan::Noscan } else { Scan::Ambiguous };
}

macro_rules! trace_as {
    ($scan:expr; $($({$($generic:tt)*})? $ty:ty),* $(,)?) => {$(
        // SAFETY: see the list in which this type stands.
        unsafe impl $(<$($generic)*>)? Trace for $ty {
            const SCAN: Scan = $scan;
        }
    )*};
}

/// Types that hold no references: what is made of them may be written by anyone at any time.
///
/// # Safety
/// [`SCAN`](Trace::SCAN) is [`Scan::Noscan`].
pub unsafe trait Noscan: Trace {}

macro_rules! noscan {
    ($($({$($generic:tt)*})? $ty:ty),* $(,)?) => {
        trace_as! { Scan::Noscan; $($({$($generic)*})? $ty),* }
        // SAFETY: that is what it has just been said to be.
        $(unsafe impl $(<$($generic)*>)? Noscan for $ty {})*
    };
}

// The closed list of what is never read: no safe code puts a pointer in here and gets it out again as a reference.
noscan! {
    (), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64,
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize,
    NonZero<u8>, NonZero<u16>, NonZero<u32>, NonZero<u64>, NonZero<u128>, NonZero<usize>,
    NonZero<i8>, NonZero<i16>, NonZero<i32>, NonZero<i64>, NonZero<i128>, NonZero<isize>,
    {T: ?Sized} PhantomData<T>, PhantomPinned,
}

// Pointers of all kinds, and what owns them: each may point into our heap, a `&'static str` too (it may have been leaked).
trace_as! { Scan::Ambiguous;
    {T: ?Sized} &T, {T: ?Sized} &mut T, {T: ?Sized} *const T, {T: ?Sized} *mut T, {T: ?Sized} NonNull<T>, {T} AtomicPtr<T>,
    {T: ?Sized} Box<T>, {T: ?Sized} Rc<T>, {T: ?Sized} Arc<T>, {T: ?Sized} rc::Weak<T>, {T: ?Sized} sync::Weak<T>,
    String, {T} Vec<T>, {T} VecDeque<T>, {T} BinaryHeap<T>, {T} LinkedList<T>, {K, V} BTreeMap<K, V>, {T} BTreeSet<T>,
    {T: ToOwned + ?Sized} Cow<'_, T>, {T} MaybeUninit<T>,
}

// Cells: what changes behind the collector's back is read again, unless there is nothing to read.
trace_as! { T::SCAN.in_cell();
    {T: Trace} UnsafeCell<T>, {T: Trace} Cell<T>, {T: Trace} RefCell<T>, {T: Trace} OnceCell<T>,
}

// Wrappers whose layout is that of what they hold.
trace_as! { T::SCAN; {T: Trace} ManuallyDrop<T>, {T: Trace} Wrapping<T>, {T: Trace} Pin<T> }

// SAFETY: the elements lie side by side.
unsafe impl<T: Trace, const N: usize> Trace for [T; N] {
    const SCAN: Scan = Scan::of_array(size_of::<T>(), N, T::SCAN);
    const SURE: bool = T::SURE;
}

// SAFETY: as its elements.
unsafe impl<T: Noscan, const N: usize> Noscan for [T; N] {}

// SAFETY: the one field of the one variant that has any is listed.
unsafe impl<T: Trace> Trace for Option<T> {
    const SCAN: Scan = Scan::of_fields(size_of::<Self>(), &[(offset_of!(Self, Some.0), T::SCAN)]);
    /// If the reference is all there is, `None` is its null.
    const SURE: bool = T::SURE && (matches!(Self::SCAN, Scan::Noscan) || size_of::<Self>() == WORD_BYTES);
}

trace_as! { Scan::of_fields(size_of::<Self>(), &[(offset_of!(Self, Ok.0), T::SCAN), (offset_of!(Self, Err.0), E::SCAN)]);
    {T: Trace, E: Trace} Result<T, E>
}

macro_rules! trace_tuples {
    ($($name:ident $index:tt),+) => {
        // SAFETY: every field is listed at its offset.
        unsafe impl<$($name: Trace),+> Trace for ($($name,)+) {
            const SCAN: Scan = Scan::of_fields(size_of::<Self>(), &[$((offset_of!(Self, $index), $name::SCAN)),+]);
            const SURE: bool = $($name::SURE)&&+;
        }
        trace_as! { Scan::Noscan;
            {Z, $($name),+} fn($($name),+) -> Z, {Z, $($name),+} unsafe fn($($name),+) -> Z,
            {Z, $($name),+} extern "C" fn($($name),+) -> Z, {Z, $($name),+} unsafe extern "C" fn($($name),+) -> Z,
        }
    };
}

// Functions are in the image, never in the heap. Those that are generic over a lifetime (`fn(&T)`) match none of
// these: the derive sees them by their form.
trace_as! { Scan::Noscan; {Z} fn() -> Z, {Z} unsafe fn() -> Z, {Z} extern "C" fn() -> Z, {Z} unsafe extern "C" fn() -> Z }

trace_tuples!(A 0);
trace_tuples!(A 0, B 1);
trace_tuples!(A 0, B 1, C 2);
trace_tuples!(A 0, B 1, C 2, D 3);
trace_tuples!(A 0, B 1, C 2, D 3, E 4);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
trace_tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

#[cfg(test)]
mod tests;
