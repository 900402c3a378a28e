//! From any word to the span that it points into, and to the object. Go: spanOf in mheap.go, findObject in mbitmap.go.
//!
//! Is the word between the heap's start and its end? Which span owns its page? Which slot of the span is it in? One
//! comparison, one table, one multiplication. Go finds an arena's record through an index and the span through the
//! record's table, for its arenas may lie anywhere; ours are neighbours, so one flat table serves.
//!
//! Unsafe here: following the owners' table, which the collector does for every word it sees.
#![allow(unsafe_code)]

use super::span::{Object, Span};
use crate::addr::{Address, Bytes, PAGE};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The span that has the page; null: the page is free.
pub(super) type Owner = AtomicPtr<Span>;

/// What everyone may ask at any time, without a lock.
pub(super) struct SpanMap {
    start: AtomicUsize,
    /// The memory there is. Owners of these pages can be looked up; it never shrinks.
    length: AtomicUsize,
    owners: AtomicPtr<Owner>,
}

impl SpanMap {
    pub(super) const fn new() -> SpanMap {
        SpanMap { start: AtomicUsize::new(0), length: AtomicUsize::new(0), owners: AtomicPtr::new(null_mut()) }
    }

    /// The slot that the word points into, if it points into a span's slot at all.
    #[inline(always)]
    pub(super) fn find(&self, word: usize) -> Option<Object> {
        self.owner(word)?.object_at(word)
    }

    /// The span with the page that the word points into.
    #[inline(always)]
    pub(super) fn owner(&self, word: usize) -> Option<&'static Span> {
        // `length` is stored after the table's address and its entries; that is what Acquire pairs with.
        let length = self.length.load(Ordering::Acquire);
        let offset = word.wrapping_sub(self.start.load(Ordering::Relaxed));
        if offset >= length {
            return None;
        }
        let owners = self.owners.load(Ordering::Relaxed);
        // SAFETY: `Arenas::grow` pushed an entry for every page below `length`, and the table never moves.
        let owner = unsafe { &*owners.add(offset / PAGE.0) };
        // SAFETY: owners are null or records of the span pool, which stay valid for ever.
        unsafe { owner.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn is_in_memory(&self, word: usize) -> bool {
        word.wrapping_sub(self.start.load(Ordering::Relaxed)) < self.length.load(Ordering::Acquire)
    }

    /// Before the first page: where pages begin, and where the table of their owners does.
    pub(super) fn set_up(&self, start: Address, owners: Address) {
        self.start.store(start.0, Ordering::Relaxed);
        self.owners.store(core::ptr::with_exposed_provenance_mut(owners.0), Ordering::Relaxed);
    }

    /// From now on the owners of so many bytes of pages can be looked up: their entries are in the table.
    pub(super) fn extend(&self, length: Bytes) {
        self.length.store(length.0, Ordering::Release);
    }

    pub(super) fn describes(&self, start: Address, owners: Address) -> bool {
        self.start.load(Ordering::Relaxed) == start.0 && self.owners.load(Ordering::Relaxed).addr() == owners.0
    }

    pub(super) fn length(&self) -> Bytes {
        Bytes(self.length.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
impl SpanMap {
    /// For corruption.rs.
    pub(super) fn places(&self) -> [*const usize; 3] {
        [self.start.as_ptr(), self.length.as_ptr(), self.owners.as_ptr().cast()]
    }
}
