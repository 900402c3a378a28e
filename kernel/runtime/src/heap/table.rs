//! Table: an array that grows in a reserved range and never moves. The runtime's records about memory are kept in such,
//! off the heap that they describe. Go: persistentalloc in malloc.go, the reserved summary levels in mpagealloc.go.
//!
//! Unsafe here: entries below `length` are initialised and nobody but the table hands them out.
#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, KIB, Range};
use crate::platform::{OutOfFrames, Platform};
use core::marker::PhantomData;

/// Frames are taken `STEP` bytes at a time.
pub(crate) struct Table<T, const STEP: usize = { 64 * KIB }> {
    range: Range,
    committed: Address,
    length: usize,
    entries: PhantomData<T>,
}

impl<T: 'static, const STEP: usize> Table<T, STEP> {
    pub(crate) const fn new() -> Self {
        Table { range: Range::EMPTY, committed: Address(0), length: 0, entries: PhantomData }
    }

    /// Takes addresses for `capacity` entries, once, before the first entry. Takes no memory. `false`: there are none.
    pub(crate) fn reserve(&mut self, platform: &dyn Platform, capacity: usize) -> bool {
        const { assert!(align_of::<T>() <= STEP && size_of::<T>() > 0) };
        let bytes = Bytes((capacity * size_of::<T>()).next_multiple_of(STEP));
        match platform.reserve(bytes, STEP) {
            Some(range) => {
                self.range = range;
                self.committed = range.start;
                true
            }
            None => false,
        }
    }

    /// Sees to it that `more` entries can be pushed. On failure nothing has changed.
    pub(crate) fn make_room(&mut self, platform: &dyn Platform, more: usize) -> Result<(), OutOfFrames> {
        let end = self.entry(self.length + more).align_up(STEP);
        if end <= self.committed {
            return Ok(());
        }
        if end > self.range.end {
            return Err(OutOfFrames { left: platform.free_memory() });
        }
        platform.commit(Range { start: self.committed, end })?;
        self.committed = end;
        Ok(())
    }

    /// Adds an entry, for which there is room, and returns its address, valid for ever.
    pub(crate) fn push(&mut self, value: T) -> Address {
        let at = self.entry(self.length);
        // It is not above `committed`.
        assert!(self.committed.0.wrapping_sub(at.0) >= size_of::<T>(), "make_room comes before push");
        // SAFETY: the entry's bytes are committed (just asserted), aligned (the range is, to STEP), and not yet in use.
        unsafe { core::ptr::with_exposed_provenance_mut::<T>(at.0).write(value) };
        self.length = self.length.wrapping_add(1);
        at
    }

    /// Takes the last entry out.
    pub(crate) fn pop(&mut self) -> Option<T>
    where
        T: Copy,
    {
        let last = self.entries().last().copied()?;
        self.length -= 1;
        Some(last)
    }

    /// Adds so many entries, for which there is room.
    pub(crate) fn extend(&mut self, count: usize, value: impl Fn() -> T) {
        let end = self.length + count;
        assert!(self.entry(end) <= self.committed, "make_room comes before extend");
        let first = core::ptr::with_exposed_provenance_mut::<T>(self.entry(self.length).0);
        for index in 0..count {
            // SAFETY: as in `push`.
            unsafe { first.add(index).write(value()) };
        }
        self.length = end;
    }

    /// The memory that it takes.
    pub(crate) fn committed(&self) -> Bytes {
        Range { start: self.range.start, end: self.committed }.bytes()
    }

    /// Where entry `index` is or will be.
    pub(crate) fn entry(&self, index: usize) -> Address {
        self.range.start.plus(Bytes(index.wrapping_mul(size_of::<T>())))
    }

    /// Whether the entries are in committed memory, and that in the range.
    pub(crate) fn check(&self) -> bool {
        let Range { start, end } = self.range;
        let committed = self.committed.0.wrapping_sub(start.0);
        start <= end
            && committed <= self.range.bytes().0
            && committed.is_multiple_of(STEP)
            && self.length <= committed / size_of::<T>()
    }

    pub(crate) fn entries(&self) -> &[T] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `length` entries from the start were written by `push`; `&self` keeps `entries_mut` away.
        unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(self.range.start.0), self.length) }
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [T] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: as in `entries`; `&mut self` keeps every other reference from the table away.
        unsafe {
            core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(self.range.start.0), self.length)
        }
    }
}

#[cfg(test)]
impl<T, const STEP: usize> Table<T, STEP> {
    /// For corruption.rs.
    pub(super) fn length_place(&self) -> *const usize {
        &raw const self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Pretend;

    #[test]
    fn entries_stay_where_they_are_while_the_table_grows() {
        let platform = Pretend::new();
        let mut table: Table<u64> = Table::new();
        let count: u64 = if cfg!(miri) { 2000 } else { 100_000 };
        assert!(table.reserve(platform, count as usize));
        for number in 0..count {
            table.make_room(platform, 1).expect("memory");
            assert_eq!(table.push(number), table.entry(number as usize));
        }
        assert!(table.entries().iter().copied().eq(0..count));
        assert_eq!(platform.committed(), (8 * count as usize).next_multiple_of(64 * KIB));
    }

    #[test]
    fn a_full_table_says_so_and_stays_as_it_was() {
        let platform = Pretend::new();
        let mut table: Table<u64> = Table::new();
        assert!(table.reserve(platform, 8192));
        table.make_room(platform, 8192).expect("memory");
        table.push(3);
        table.extend(8191, || 5);
        assert!(table.make_room(platform, 1).is_err());
        assert!(table.entries().iter().copied().eq([3].into_iter().chain([5; 8191])));
    }
}
