//! Where the tables of maps lie: noscan memory if neither keys nor values hold references, else ambiguous.
//!
//! Unsafe here: `Allocator`.
#![allow(unsafe_code)]

use crate::allocator::{Collected, free_noscan, new_noscan};
use crate::gc::trace::{Scan, Trace};
use core::alloc::{AllocError, Allocator, GlobalAlloc, Layout};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// hashbrown's handle to the heap. Nobody outside gets hold of one: with it a table of references could be put where
/// the collector never looks.
pub struct MapMemory<K, V>(PhantomData<fn(K, V)>);

impl<K: Trace, V: Trace> MapMemory<K, V> {
    const IS_NOSCAN: bool = matches!((K::SCAN, V::SCAN), (Scan::Noscan, Scan::Noscan));

    pub(super) const fn new() -> MapMemory<K, V> {
        MapMemory(PhantomData)
    }
}

impl<K, V> Clone for MapMemory<K, V> {
    fn clone(&self) -> MapMemory<K, V> {
        MapMemory(PhantomData)
    }
}

// SAFETY: blocks are the heap's, as large and as aligned as asked; they stay where they are while the table's pointer
// into them is found. All handles of a type are the same.
unsafe impl<K: Trace, V: Trace> Allocator for MapMemory<K, V> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = if Self::IS_NOSCAN {
            new_noscan(layout).ok()
        } else {
            // SAFETY: hashbrown asks for tables, which are not empty.
            NonNull::new(unsafe { Collected.alloc(layout) })
        };
        block.map(|block| NonNull::slice_from_raw_parts(block, layout.size())).ok_or(AllocError)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if Self::IS_NOSCAN {
            // SAFETY: the caller's promise.
            unsafe { free_noscan(block, layout) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { Collected.dealloc(block.as_ptr(), layout) };
        }
    }
}
