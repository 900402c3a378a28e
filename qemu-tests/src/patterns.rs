//! Objects over 512 bytes: what a pattern says is a reference holds an object, what only looks like one does not.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into};
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// A number, which may look like a reference, and a reference.
#[derive(Trace)]
struct Entry {
    number: AtomicUsize,
    object: GcCell<Option<Gc<Canary>>>,
}

/// Read by its element.
#[derive(Trace)]
struct Precise<const N: usize> {
    entries: [Entry; N],
}

/// The string makes its every word a reference, perhaps.
#[derive(Trace)]
struct Ambiguous<const N: usize> {
    entries: [Entry; N],
    _name: &'static str,
}

fn entries<const N: usize>() -> [Entry; N] {
    core::array::from_fn(|_| Entry { number: AtomicUsize::new(0), object: GcCell::null() })
}

/// Two objects for an entry: of one it has the address as a number, to the other it refers.
fn fill(entry: &Entry) -> [Hidden; 2] {
    [
        hatch_into(|object| entry.number.store(Gc::as_ptr(object).addr(), Relaxed)),
        hatch_into(|object| entry.object.set(Some(object))),
    ]
}

/// What a collection leaves of the objects of the first entry, the last, and one in between.
fn kept<T: 'static>(array: Gc<T>, entries: fn(&T) -> &[Entry]) -> [[bool; 2]; 3] {
    let chosen = |index: usize| {
        let entries = entries(&array);
        &entries[[0, entries.len() / 3, entries.len() - 1][index]]
    };
    let objects: [[Hidden; 2]; 3] = core::array::from_fn(|index| fill(chosen(index)));
    collect_cleanly();
    black_box(array);
    objects.map(|pair| pair.map(Hidden::is_allocated))
}

fn kept_by_precise<const N: usize>() -> [[bool; 2]; 3] {
    assert!(matches!(Precise::<N>::SCAN, Scan::Repeated(_)));
    kept(Gc::new(Precise::<N> { entries: entries() }), |array| &array.entries)
}

fn kept_by_ambiguous<const N: usize>() -> [[bool; 2]; 3] {
    assert_eq!(Ambiguous::<N>::SCAN, Scan::Ambiguous);
    kept(Gc::new(Ambiguous::<N> { entries: entries(), _name: "" }), |array| &array.entries)
}

// In slots of one page and of several, and large.

#[kernel_test]
fn a_large_array_keeps_what_its_elements_refer_to_and_not_what_looks_so() {
    let objects_only = [[false, true]; 3];
    assert_eq!(kept_by_precise::<33>(), objects_only);
    assert_eq!(kept_by_precise::<1000>(), objects_only);
    assert_eq!(kept_by_precise::<4000>(), objects_only);
}

#[kernel_test]
fn its_ambiguous_twin_keeps_both() {
    let both = [[true, true]; 3];
    assert_eq!(kept_by_ambiguous::<33>(), both);
    assert_eq!(kept_by_ambiguous::<1000>(), both);
    assert_eq!(kept_by_ambiguous::<4000>(), both);
}

#[kernel_test(status = 0, cmdline = "GODEBUG=gccheckmark=1,invalidptr=1")]
fn the_second_opinion_reads_large_arrays_so_too() {
    a_large_array_keeps_what_its_elements_refer_to_and_not_what_looks_so();
    its_ambiguous_twin_keeps_both();
}

/// In a boot of its own: a stale word may keep the array, and then the next collection finds references to what is no more.
#[kernel_test(off, status = 0)]
fn without_the_scan_of_large_objects_a_large_array_keeps_nothing() {
    let _off = disable(Mechanism::AmbiguousScan);
    assert_eq!(kept_by_precise::<1000>(), [[false, false]; 3]);
}

#[derive(Trace)]
struct Lonely {
    before: [usize; 70],
    object: Gc<Canary>,
    after: [usize; 3],
}

/// With the objects: one that is referred to, one whose address fills all the rest.
#[inline(never)]
fn lonely() -> (Gc<Lonely>, [Hidden; 2]) {
    let (object, other) = (Canary::hatch(), Canary::hatch());
    let address = Gc::as_ptr(other).addr();
    let lonely = Gc::new(Lonely { before: [address; 70], object, after: [address; 3] });
    (lonely, [Hidden::of(object), Hidden::of(other)])
}

#[kernel_test]
fn one_reference_among_many_numbers_is_the_only_word_that_counts() {
    let kept = || {
        let (lonely, objects) = lonely();
        collect_cleanly();
        assert!(lonely.object.is_intact() && lonely.before[69] == lonely.after[0]);
        objects.map(Hidden::is_allocated)
    };
    // A stale word in a register or on the stack may keep the other once.
    let tries = [(); 5].map(|()| kept());
    assert!(tries.contains(&[true, false]), "{tries:?}");
}
