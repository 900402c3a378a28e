//! Types of which all bits zero are a value: their objects need no value to be moved to the heap, only cleared memory. Go: every type.
//!
//! Unsafe here: `unsafe impl Zeroable`, each for a type whose zero is known.
#![allow(unsafe_code)]

use super::cell::GcCell;
use super::handle::Gc;
use super::trace::Trace;
use core::marker::PhantomData;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize,
};

/// For [`Gc::zeroed`].
///
/// # Safety
/// Memory of all zero bytes is a value of the type.
pub unsafe trait Zeroable: Trace {}

macro_rules! zeroable {
    ($($({$($generic:tt)*})? $ty:ty),* $(,)?) => {$(
        // SAFETY: numbers are 0, `false` and `'\0'`, a reference that may be none is none, the rest is made of such.
        unsafe impl $(<$($generic)*>)? Zeroable for $ty {}
    )*};
}

zeroable! {
    bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64,
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize,
    {T: ?Sized} PhantomData<T>, {T: Zeroable, const N: usize} [T; N], {T} Option<Gc<T>>, {T} GcCell<Option<Gc<T>>>,
}
