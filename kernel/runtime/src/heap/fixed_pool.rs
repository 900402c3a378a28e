//! FixedPool: records of one type at addresses that never change, off the heap. Go: mfixalloc.go.
//!
//! A record that was given back is reused for the same type and stays a valid `T` all the time, so a reference to it
//! never dangles: at worst it is to a record that describes something else by now. That is why `T` changes through
//! `&T`.
//!
//! Unsafe here: records are never dropped, never moved and never borrowed mutably once they are in the table.
#![allow(unsafe_code)]

use super::table::Table;
use crate::addr::Bytes;
use crate::platform::{OutOfFrames, Platform};

pub(crate) struct FixedPool<T> {
    slots: Table<Slot<T>>,
    /// The numbers of those given back, the last at the end; as long as there are records there is room for all. No list through
    /// the records: they are in no cache any more, and each would have to be waited for.
    free: Table<u32, 4096>,
}

/// Cache lines of their own: records are written by different CPUs.
#[repr(align(64))]
struct Slot<T> {
    record: T,
}

impl<T: Sync + 'static> FixedPool<T> {
    pub(crate) const fn new() -> FixedPool<T> {
        FixedPool { slots: Table::new(), free: Table::new() }
    }

    /// Takes addresses for `capacity` records (at most 2³²), once, before the first is taken. `false`: there are none.
    pub(crate) fn reserve(&mut self, platform: &dyn Platform, capacity: usize) -> bool {
        assert!(u32::try_from(capacity - 1).is_ok());
        self.slots.reserve(platform, capacity) && self.free.reserve(platform, capacity)
    }

    /// A record for the caller alone: one that was given back, as its last user left it, or a new one from `make`.
    /// O(1); frames are taken 64 KiB at a time.
    pub(crate) fn take(
        &mut self,
        platform: &dyn Platform,
        make: impl FnOnce() -> T,
    ) -> Result<&'static T, OutOfFrames> {
        if let Some(index) = self.free.pop() {
            return Ok(for_ever(&self.slots.entries()[index as usize].record));
        }
        self.slots.make_room(platform, 1)?;
        self.free.make_room(platform, self.slots.entries().len() + 1)?;
        self.slots.push(Slot { record: make() });
        Ok(self.slots.entries().last().map(|slot| for_ever(&slot.record)).expect("just pushed"))
    }

    /// Gives a taken record back; the caller no longer uses it as its own.
    pub(crate) fn give_back(&mut self, record: &'static T) {
        self.free.push(self.index_of(record) as u32);
    }

    /// The number of a record of this pool, dense from 0, the same for as long as the system runs.
    pub(crate) fn index_of(&self, record: &T) -> usize {
        ((&raw const *record).addr() - self.slots.entry(0).0) / size_of::<Slot<T>>()
    }

    /// How many records are waiting for reuse, if these are the ones that are `is_free`: as many, and their numbers' sum is the same. O(n).
    pub(crate) fn check_free(&self, is_free: impl Fn(&T) -> bool) -> Option<usize> {
        let slots = self.slots.entries();
        let sum = |numbers: &mut dyn Iterator<Item = usize>| {
            numbers.fold((0, 0usize), |(count, sum), number| (count + 1, sum.wrapping_add(number)))
        };
        let waiting = sum(&mut self.free.entries().iter().map(|&number| number as usize));
        let unused = sum(&mut (0..slots.len()).filter(|&number| is_free(&slots[number].record)));
        (waiting == unused).then_some(waiting.0)
    }

    /// The memory of the records that were taken and not given back.
    pub(crate) fn in_use(&self) -> Bytes {
        Bytes((self.slots.entries().len() - self.free.entries().len()) * size_of::<Slot<T>>())
    }

    /// The memory of all records.
    pub(crate) fn committed(&self) -> Bytes {
        Bytes(self.slots.committed().0 + self.free.committed().0)
    }

    pub(crate) fn check_table(&self) -> bool {
        self.slots.check() && self.free.check()
    }

    /// The record that is at this address, which may be any.
    pub(crate) fn record_at(&self, address: *const T) -> Option<&'static T> {
        let offset = address.addr().checked_sub(self.slots.entry(0).0)?;
        let slot = self.slots.entries().get(offset / size_of::<Slot<T>>())?;
        core::ptr::eq(&slot.record, address).then(|| for_ever(&slot.record))
    }

    /// Every record made until now, taken or given back.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static T> + use<T> {
        // SAFETY: as in `for_ever`, for all of them: `Table` never moves, and nothing here calls `entries_mut`.
        let slots = unsafe { &*core::ptr::from_ref(self.slots.entries()) };
        slots.iter().map(|slot: &'static Slot<T>| &slot.record)
    }
}

fn for_ever<T>(record: &T) -> &'static T {
    // SAFETY: called with records of a pool's table only, which keeps its entries in place and its memory committed
    // for ever; this file never borrows them mutably.
    unsafe { &*core::ptr::from_ref(record) }
}

#[cfg(test)]
impl<T: Sync + 'static> FixedPool<T> {
    /// For corruption.rs: the number of the unused record that is next, how many unused ones there are, how many records.
    pub(super) fn places(&self) -> (*const u32, *const usize, *const usize) {
        let last = self.free.entries().last().expect("one is unused");
        (core::ptr::from_ref(last), self.free.length_place(), self.slots.length_place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Pretend;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn records_keep_their_address_and_number_and_are_reused_last_first() {
        let platform = Pretend::new();
        let mut pool = FixedPool::<AtomicUsize>::new();
        let count = if cfg!(miri) { 600 } else { 5000 };
        let late = count - 50;
        assert!(pool.reserve(platform, count));
        let taken: Vec<_> =
            (0..count).map(|number| pool.take(platform, || AtomicUsize::new(number)).expect("memory")).collect();
        for (number, &record) in taken.iter().enumerate() {
            assert_eq!((record.load(Relaxed), pool.index_of(record)), (number, number));
        }
        pool.give_back(taken[7]);
        pool.give_back(taken[late]);
        assert_eq!(pool.in_use(), Bytes((count - 2) * 64));
        let given_back = |number: &AtomicUsize| [7, late].contains(&number.load(Relaxed));
        assert_eq!((pool.check_free(given_back), pool.check_free(|_| false)), (Some(2), None));
        for expected in [late, 7] {
            let again = pool.take(platform, || unreachable!("two were given back")).expect("one was given back");
            assert_eq!((again.load(Relaxed), pool.index_of(again)), (expected, expected));
        }
        assert!(pool.all().zip(&taken).all(|(found, &record)| core::ptr::eq(found, record)));
        assert_eq!(pool.all().count(), count);
    }

    #[test]
    fn a_pool_without_frames_says_so_and_goes_on_when_there_are_some() {
        let platform = Pretend::new();
        let mut pool = FixedPool::<AtomicUsize>::new();
        assert!(pool.reserve(platform, 5000));
        platform.fail_after(0);
        assert!(pool.take(platform, AtomicUsize::default).is_err());
        platform.fail_no_more();
        assert!(pool.take(platform, AtomicUsize::default).is_ok());
    }
}
