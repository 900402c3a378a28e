//! From any word to the span that it points into, and to the object. Go: spanOf in mheap.go, findObject in mbitmap.go.
//!
//! Is the word between the heap's start and its end? Which span owns its page? Which slot of the span is it in? One
//! comparison, one table, one multiplication. Go finds an arena's record through an index and the span through the
//! record's table, for its arenas may lie anywhere; ours are neighbours, so one flat table serves.
//!
//! Unsafe here: following the owners' table, which the collector does for every word it sees; an instruction that Rust has no name for.
#![allow(unsafe_code)]

use super::pages::{Mapping, Run};
use super::span::{Object, Span};
use super::span_class::SpanClass;
use crate::addr::{Address, Bytes, PAGE, Pages, Range};
use crate::platform::{OutOfFrames, Platform};
use core::mem::offset_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The span that has the page; null: the page is free.
pub(crate) type Owner = AtomicPtr<Span>;

/// What everyone may ask at any time, without a lock.
pub(super) struct SpanMap {
    start: AtomicUsize,
    /// How far the heap has grown. Owners of these pages can be looked up; it never shrinks.
    length: AtomicUsize,
    owners: AtomicPtr<Owner>,
    /// How many pages have an owner, without those that no CPU has entered yet.
    owned: AtomicUsize,
    /// How many pages below `length` have memory, by [`Mapping`].
    with_memory: [AtomicUsize; 2],
}

impl SpanMap {
    pub(super) const fn new() -> SpanMap {
        SpanMap {
            start: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            owners: AtomicPtr::new(null_mut()),
            owned: AtomicUsize::new(0),
            with_memory: [const { AtomicUsize::new(0) }; 2],
        }
    }

    /// The slot that the word points into, if it points into a span's slot at all.
    #[inline(always)]
    pub(super) fn find(&self, word: usize) -> Option<Object> {
        self.snapshot().find(word)
    }

    /// The span with the page that the word points into.
    #[inline(always)]
    pub(super) fn owner(&self, word: usize) -> Option<&'static Span> {
        self.snapshot().owner(word)
    }

    #[inline(always)]
    pub(super) fn snapshot(&self) -> Snapshot {
        // `length` is stored after the table's address and its entries; that is what Acquire pairs with.
        let length = self.length.load(Ordering::Acquire);
        Snapshot { start: self.start.load(Ordering::Relaxed), length, owners: self.owners.load(Ordering::Relaxed) }
    }

    /// Makes a record from the pool the span of these pages, which are the caller's, who also counts them: from now on they are found to be
    /// the span's. No lock.
    pub(super) fn open(&self, span: &'static Span, class: SpanClass, first: usize, pages: Pages) {
        span.open(class, self.range(first, pages).start, pages);
        self.store(first, pages, core::ptr::from_ref(span).cast_mut());
    }

    /// So many pages more have an owner.
    pub(super) fn count(&self, pages: Pages) {
        self.owned.fetch_add(pages.0, Ordering::Relaxed);
    }

    /// From now on these pages are found to be nobody's.
    pub(super) fn clear_owners(&self, first: usize, pages: Pages) {
        self.store(first, pages, null_mut());
        self.owned.fetch_sub(pages.0, Ordering::Relaxed);
    }

    fn store(&self, first: usize, pages: Pages, owner: *mut Span) {
        let Pages(pages) = pages;
        assert!(first + pages <= self.length.load(Ordering::Acquire) / PAGE.0, "a span lies in the heap's memory");
        let owners = self.owners.load(Ordering::Relaxed).wrapping_add(first);
        for page in 0..pages {
            // SAFETY: as in `owner`: below `length`.
            let entry = unsafe { &*owners.add(page) };
            // Release: who finds the span finds its geometry too.
            entry.store(owner, Ordering::Release);
        }
    }

    pub(super) fn range(&self, first: usize, pages: Pages) -> Range {
        Range::new(Address(self.start.load(Ordering::Relaxed)).plus(Pages(first).bytes()), pages.bytes())
    }

    /// Gives the run's memory back. May take the platform's locks.
    pub(super) fn decommit(&self, platform: &dyn Platform, run: Run) {
        platform.decommit(self.range(run.first, Pages(run.pages)));
        self.with_memory[run.mapping as usize].fetch_sub(run.with_memory, Ordering::Relaxed);
    }

    /// Gives pages without memory theirs. May take the platform's locks.
    #[cold]
    pub(super) fn commit_again(
        &self,
        platform: &dyn Platform,
        mapping: Mapping,
        first: usize,
        pages: Pages,
    ) -> Result<(), OutOfFrames> {
        let range = self.range(first, pages);
        match mapping {
            Mapping::Huge => platform.commit(range)?,
            Mapping::Small => platform.commit_small(range)?,
        }
        self.with_memory[mapping as usize].fetch_add(pages.0, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn with_memory(&self, mapping: Mapping) -> Pages {
        Pages(self.with_memory[mapping as usize].load(Ordering::Relaxed))
    }

    /// How many pages are in spans.
    pub(super) fn owned(&self) -> Pages {
        Pages(self.owned.load(Ordering::Relaxed))
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

/// The map as it was at one time: all there is while the world is stopped, and three words that the marker keeps in registers.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot {
    start: usize,
    length: usize,
    owners: *const Owner,
}

impl Snapshot {
    #[inline(always)]
    pub(crate) fn find(&self, word: usize) -> Option<Object> {
        self.owner(word)?.object_at(word)
    }

    #[inline(always)]
    fn owner(&self, word: usize) -> Option<&'static Span> {
        // SAFETY: owners are null or records of the span pool, which stay valid for ever.
        unsafe { self.entry(word)?.load(Ordering::Acquire).as_ref() }
    }

    /// Where it says who owns the page that the word points into; `None` outside the heap's memory.
    #[inline(always)]
    pub(crate) fn entry(&self, word: usize) -> Option<&'static Owner> {
        let offset = word.wrapping_sub(self.start);
        if offset >= self.length {
            return None;
        }
        // SAFETY: `Arenas::grow` pushed an entry for every page below `length`, and the table never moves.
        Some(unsafe { &*self.owners.add(offset / PAGE.0) })
    }

    /// The page's owner. Meanwhile the processor fetches what a marker reads next of `word`, which points into the page.
    #[inline(always)]
    pub(crate) fn owner_ahead(word: usize, owner: &Owner) -> Option<&'static Span> {
        let span = owner.load(Ordering::Acquire);
        prefetch::<0>(word);
        prefetch::<{ offset_of!(Span, bits) }>(span.addr());
        prefetch::<{ offset_of!(Span, window) }>(span.addr());
        // SAFETY: as in `owner`.
        unsafe { span.as_ref() }
    }
}

/// Has the processor fetch what is at `OFFSET` from an address, which may be any: a hint, that runs on at once.
#[inline(always)]
pub(crate) fn prefetch<const OFFSET: usize>(address: usize) {
    // SAFETY: reads nothing into a register, faults at nothing.
    #[cfg(not(miri))]
    unsafe {
        core::arch::asm!("prefetcht0 [{} + {}]", in(reg) address, const OFFSET, options(nostack, nomem, preserves_flags))
    };
}

#[cfg(test)]
impl SpanMap {
    /// For corruption.rs.
    pub(super) fn places(&self) -> [*const usize; 5] {
        let owners = self.owners.as_ptr().cast();
        [self.start.as_ptr(), self.length.as_ptr(), owners, self.owned.as_ptr(), self.with_memory[1].as_ptr()]
    }
}
