//! Arenas: the heap's addresses, the memory behind them, and which span owns each page. Go: heapArena in mheap.go,
//! sysAlloc in malloc.go.
//!
//! ```text
//! one reservation of up to 1 TiB   | arena, 64 MiB | arena | …                    |
//! pages as they are needed, 4 MiB  |huge |small|huge |     ^ end
//! owners, one per 8 KiB page       |A A A . B C C C C …|
//! ```
//!
//! A chunk is mapped by huge pages, or for ambiguous objects by small ones. Whichever are needed are added at the end:
//! so one table, and one comparison with the end, serve for both. Each arena's owners are 64 KiB of their table.
//! Everything here is under the page heap's lock; `find_object` reads what it publishes.

use super::find_object::{Owner, SpanMap};
use super::pages::CHUNK_PAGES;
use super::span::Span;
use super::table::Table;
use crate::addr::{Address, Bytes, GIB, MIB, PAGE, Pages, Range};
use crate::platform::{OutOfFrames, Platform};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

pub(crate) const ARENA: Bytes = Bytes(64 * MIB);
pub(super) const CHUNK: Bytes = Pages(CHUNK_PAGES).bytes();
/// What is reserved if the address plan has the room; else half, and so on down to one arena.
pub(super) const MOST: Bytes = Bytes(1024 * GIB);

/// What the page heap's lock protects.
pub(super) struct Arenas {
    range: Range,
    end: Address,
    owners: Table<Owner>,
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
        map.set_up(self.range.start, self.owners.entry(0));
        Some(most)
    }

    /// Adds so many chunks, without memory. On failure nothing has changed.
    pub(super) fn grow(&mut self, platform: &dyn Platform, map: &SpanMap, chunks: usize) -> Result<(), OutOfFrames> {
        let left = Range { start: self.end, end: self.range.end }.bytes();
        if chunks > left.0 / CHUNK.0 {
            return Err(OutOfFrames { left: platform.free_memory() });
        }
        let pages = chunks * CHUNK_PAGES;
        self.owners.make_room(platform, pages)?;
        self.owners.extend(pages, || AtomicPtr::new(null_mut()));
        self.end = self.end.plus(Pages(pages).bytes());
        map.extend(Range { start: self.range.start, end: self.end }.bytes());
        Ok(())
    }

    /// How many pages have an owner.
    pub(super) fn owned(&self) -> usize {
        self.owners.entries().iter().filter(|owner| !owner.load(Ordering::Relaxed).is_null()).count()
    }

    /// The page's owner, whatever is entered there.
    pub(super) fn owner(&self, page: usize) -> *const Span {
        self.owners.entries()[page].load(Ordering::Relaxed)
    }

    /// Whether `map` finds the owners' table where it is, as long as it is and as the memory is.
    pub(super) fn check(&self, map: &SpanMap) -> bool {
        self.owners.check()
            && map.describes(self.range.start, self.owners.entry(0))
            && self.end.0.wrapping_sub(self.range.start.0) == map.length().0
            && self.owners.entries().len() == map.length().0 / PAGE.0
    }

    /// The memory of the owners' table.
    pub(super) fn records(&self) -> Bytes {
        self.owners.committed()
    }

    pub(super) fn range(&self) -> Range {
        self.range
    }

    pub(super) fn page(&self, number: usize) -> Address {
        self.range.start.plus(Pages(number).bytes())
    }

    pub(super) fn page_number(&self, page: Address) -> usize {
        Range { start: self.range.start, end: page }.bytes().0 / PAGE.0
    }
}

#[cfg(test)]
impl Arenas {
    /// For corruption.rs: how many owners there are, where the memory ends.
    pub(super) fn places(&mut self) -> (*const usize, *const usize) {
        (self.owners.length_place(), (&raw const self.end).cast())
    }

    pub(super) fn owner_place(&self, page: usize) -> *const usize {
        self.owners.entries()[page].as_ptr().cast()
    }
}
