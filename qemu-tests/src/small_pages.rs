//! Ambiguous objects lie on pages of 4 KiB, so that the MMU can tell which of them were written to; all others on pages of 2 MiB.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::{Address, Bytes, KIB, MIB, Range};
use runtime::inspect::{free_memory, place_of};
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::{kernel_test, report, testing};

const COUNT: usize = 100_000;

/// Of both kinds, of sizes from 8 bytes up.
#[derive(Default)]
struct Objects {
    ambiguous: Vec<Box<[usize]>>,
    precise: Vec<Gc<Precise>>,
}

#[derive(Trace)]
struct Precise {
    next: GcCell<Option<Gc<Precise>>>,
    numbers: [usize; 20],
}

/// How many objects there are, and how many of them begin on a page of 2 MiB.
#[derive(Debug, Default, PartialEq)]
struct Count {
    objects: usize,
    on_huge: usize,
}

impl Objects {
    /// One of 8 to 504 bytes, and now and then one of up to 20 KiB.
    fn make_ambiguous(&mut self, number: usize) {
        let words = if number.is_multiple_of(1000) { number % 2560 } else { number % 63 };
        self.ambiguous.push(black_box(alloc::vec![number; words + 1].into_boxed_slice()));
    }

    fn make_precise(&mut self, number: usize) {
        self.precise.push(Gc::new(Precise { next: GcCell::new(self.precise.last().copied()), numbers: [number; 20] }));
    }

    /// In turn: so the heap grows for both.
    fn make(&mut self) {
        for number in 0..COUNT {
            self.make_ambiguous(number);
            self.make_precise(number);
        }
    }

    fn drop_every_other(&mut self) {
        let mut number = 0;
        let mut is_kept = || {
            number += 1;
            number % 2 == 0
        };
        self.ambiguous.retain(|_| is_kept());
        self.precise.retain(|_| is_kept());
    }

    fn count_ambiguous(&self) -> Count {
        count(self.ambiguous.iter().map(|object| (object.as_ptr().addr(), "ambiguous")))
    }

    fn count_precise(&self) -> Count {
        count(self.precise.iter().map(|object| (core::ptr::from_ref::<Precise>(object).addr(), "precise")))
    }

    fn assert_unchanged(&self) {
        assert!(self.ambiguous.iter().all(|object| object.iter().all(|word| *word == object[0])));
        assert!(self.precise.iter().all(|object| object.numbers.iter().all(|word| *word == object.numbers[0])));
        assert!(self.precise.iter().filter(|object| object.next.get().is_some()).count() > 0);
    }
}

/// Looks into the page tables for each.
fn count(objects: impl Iterator<Item = (usize, &'static str)>) -> Count {
    objects.fold(Count::default(), |count, (at, kind)| {
        assert_eq!(place_of(at).map(|place| place.kind), Some(kind));
        Count { objects: count.objects + 1, on_huge: count.on_huge + usize::from(is_on_huge_page(at)) }
    })
}

fn is_on_huge_page(at: usize) -> bool {
    let whole = Range::new(Address(at).align_down(2 * MIB), Bytes(2 * MIB));
    testing::platform().on_huge_pages(whole) == Some(Bytes(2 * MIB))
}

/// All memory that was given back is taken again. In a boot of its own: what other tests leave free of a huge page in
/// use is taken in pieces.
#[kernel_test(unstressed, mem = "384M")]
fn ambiguous_objects_lie_on_small_pages_and_precise_ones_on_huge_pages() {
    let before = memory_stats();
    let mut objects = Objects::default();
    for round in 0..3 {
        objects.make();
        let (ambiguous, precise) = (objects.count_ambiguous(), objects.count_precise());
        let stats = memory_stats();
        report!(
            "ambiguous: {ambiguous:?}, precise: {precise:?}; MiB of {}: {} by 2 MiB, {} by 4 KiB",
            (stats.heap_sys - stats.heap_released) / MIB,
            stats.heap_huge.unwrap_or(0) / MIB,
            stats.heap_small / MIB
        );
        assert_eq!(ambiguous.on_huge, 0);
        // So is what this one gives back.
        assert!(round > 0 || precise.on_huge >= COUNT * 9 / 10, "{precise:?}");
        objects.assert_unchanged();
        objects.drop_every_other();
        free_os_memory();
        assert_eq!(objects.count_ambiguous().on_huge, 0);
        objects.assert_unchanged();
    }
    let stats = memory_stats();
    // Half of them are left, of 250 bytes on average.
    assert!(stats.heap_small >= before.heap_small + COUNT / 2 * 250 && stats.heap_huge > before.heap_huge);
    drop(objects);
    free_os_memory();
    let after = memory_stats();
    assert!(after.heap_small <= before.heap_small + MIB, "{} before, {} after", before.heap_small, after.heap_small);
}

#[kernel_test(off)]
fn without_small_pages_ambiguous_objects_lie_on_huge_pages_too() {
    let _off = disable(Mechanism::SmallPages);
    let mut objects = Objects::default();
    objects.make();
    let ambiguous = objects.count_ambiguous();
    assert!(ambiguous.on_huge >= COUNT * 9 / 10, "{ambiguous:?}");
}

/// Of several chunks, with others between them.
#[kernel_test]
fn large_ambiguous_objects_lie_on_small_pages_from_end_to_end() {
    for round in 0..3 {
        let (mut ambiguous, mut noscan) = (Vec::<Vec<usize>>::new(), Vec::<Vec<u8>>::new());
        for bytes in [40 * KIB, 600 * KIB, 2 * MIB, 5 * MIB, 9 * MIB] {
            ambiguous.push(black_box(alloc::vec![round; bytes / 8]));
            noscan.push(black_box(alloc::vec![1; bytes]));
        }
        for object in &ambiguous {
            let range = Range::new(Address(object.as_ptr().addr()), Bytes(8 * object.len()));
            let pages = (range.start.0..range.end.0).step_by(4 * KIB);
            assert!(pages.into_iter().all(|page| !is_on_huge_page(page)), "{range:?}");
            assert!(object.iter().all(|word| *word == round));
        }
        let long = noscan[4].as_ptr().addr();
        assert!((long..long + 9 * MIB).step_by(2 * MIB).filter(|page| is_on_huge_page(*page)).count() >= 3);
        // The next round takes pages again that are free, or have no memory any more.
        drop((ambiguous, noscan));
        if round == 1 {
            free_os_memory();
        }
    }
}

/// Half of all memory and more, which the heap still has, for objects that cannot have the same pages.
#[kernel_test(unstressed)]
fn what_is_free_of_huge_pages_is_memory_for_small_ones_and_the_other_way_round() {
    let count = free_memory().0 * 6 / 10 / MIB;
    for _ in 0..2 {
        let noscan: Vec<Vec<u8>> = (0..count).map(|_| black_box(Vec::with_capacity(MIB - 1))).collect();
        drop(noscan);
        let large: Vec<Vec<usize>> = (0..count).map(|_| black_box(Vec::with_capacity(MIB / 8 - 1))).collect();
        drop(large);
        let noscan: Vec<Gc<[u8; 1000]>> = (0..count * MIB / 1024).map(|_| Gc::new([1; 1000])).collect();
        drop(noscan);
        let small: Vec<Box<[usize; 100]>> = (0..count * MIB / 1024).map(|_| Box::new([1; 100])).collect();
        assert!(small.iter().all(|object| object[99] == 1));
    }
    free_os_memory();
}
