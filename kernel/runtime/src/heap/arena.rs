//! Arenas: the heap's addresses, and from any address to the span that owns it. Go: heapArena and spanOf in mheap.go.
//!
//! ```text
//! one reservation of up to 1 TiB   | arena, 64 MiB | arena | …                    |
//! memory behind it, 4 MiB a time   |chunk|chunk|chunk|     ^ end
//! owners, one per 8 KiB page       |A A A . B C C C C …|
//! ```
//!
//! Go finds an arena's record through an index and the span through the record's table, for its arenas may lie anywhere. Ours
//! are neighbours, so one flat table serves, and an address needs one comparison. 64 KiB of the table is one arena's.
//!
//! Unsafe here: following the owners' table, which the collector does for every word it sees.
#![allow(unsafe_code)]

use super::page_bits::CHUNK_PAGES;
use super::span::{Object, Span};
use super::table::Table;
use crate::addr::{Address, Bytes, GIB, MIB, PAGE, Pages, Range};
use crate::platform::{OutOfFrames, Platform};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

pub(super) const ARENA: Bytes = Bytes(64 * MIB);
pub(super) const CHUNK: Bytes = Pages(CHUNK_PAGES).bytes();
/// What is reserved if the address plan has the room; else half, and so on down to one arena.
const MOST: Bytes = Bytes(1024 * GIB);

/// The span that has the page; null: the page is free.
type Owner = AtomicPtr<Span>;

/// What everyone may ask at any time, without a lock.
pub(super) struct SpanMap {
    start: AtomicUsize,
    /// The memory there is. Owners of these pages can be looked up; it never shrinks.
    length: AtomicUsize,
    owners: AtomicPtr<Owner>,
}

/// What the page heap's lock protects.
pub(super) struct Arenas {
    range: Range,
    end: Address,
    owners: Table<Owner>,
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

    pub(super) fn length(&self) -> Bytes {
        Bytes(self.length.load(Ordering::Relaxed))
    }
}

impl Arenas {
    pub(super) const fn new() -> Arenas {
        Arenas { range: Range::EMPTY, end: Address(0), owners: Table::new() }
    }

    /// Takes addresses, and returns how many; `None` if there is not even room for one arena.
    pub(super) fn reserve(&mut self, platform: &dyn Platform, map: &SpanMap) -> Option<Bytes> {
        let mut most = MOST;
        self.range = loop {
            match platform.reserve(most, ARENA.0) {
                Some(range) => break range,
                None if most > ARENA => most.0 /= 2,
                None => return None,
            }
        };
        self.end = self.range.start;
        if !self.owners.reserve(platform, most.0 / PAGE.0) {
            return None;
        }
        map.start.store(self.range.start.0, Ordering::Relaxed);
        map.owners.store(core::ptr::with_exposed_provenance_mut(self.owners.entry(0).0), Ordering::Relaxed);
        Some(most)
    }

    /// Gets memory for so many chunks more. On failure nothing has changed.
    pub(super) fn grow(&mut self, platform: &dyn Platform, map: &SpanMap, chunks: usize) -> Result<(), OutOfFrames> {
        let left = Range { start: self.end, end: self.range.end }.bytes();
        if chunks > left.0 / CHUNK.0 {
            return Err(OutOfFrames { left: platform.free_memory() });
        }
        let pages = chunks * CHUNK_PAGES;
        self.owners.make_room(platform, pages)?;
        let more = Range::new(self.end, Pages(pages).bytes());
        platform.commit(more)?;
        for _ in 0..pages {
            self.owners.push(AtomicPtr::new(null_mut()));
        }
        self.end = more.end;
        map.length.store(Range { start: self.range.start, end: more.end }.bytes().0, Ordering::Release);
        Ok(())
    }

    /// From now on these pages are found to be the span's.
    pub(super) fn set_owner(&self, span: &'static Span) {
        self.store(span, core::ptr::from_ref(span).cast_mut());
    }

    /// From now on the span's pages are found to be nobody's.
    pub(super) fn clear_owner(&self, span: &'static Span) {
        self.store(span, null_mut());
    }

    fn store(&self, span: &'static Span, owner: *mut Span) {
        let first = self.page_number(span.base());
        // Release: who finds the span finds its geometry too.
        self.owners.entries()[first..][..span.pages().0].iter().for_each(|entry| entry.store(owner, Ordering::Release));
    }

    /// How many pages have an owner.
    pub(super) fn owned(&self) -> usize {
        self.owners.entries().iter().filter(|owner| !owner.load(Ordering::Relaxed).is_null()).count()
    }

    pub(super) fn page(&self, number: usize) -> Address {
        self.range.start.plus(Pages(number).bytes())
    }

    pub(super) fn page_number(&self, page: Address) -> usize {
        Range { start: self.range.start, end: page }.bytes().0 / PAGE.0
    }
}
