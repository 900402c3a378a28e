//! Objects of fewer than 16 bytes without references share slots, and each keeps its slot. Under stress a collection may come between any
//! two, and begins a new slot.

use crate::canary::{Hidden, collect_cleanly};
use core::hint::black_box;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

const COUNT: usize = 16;

/// What holds one of them: by a precise reference into the slot's middle.
type Holder = Gc<GcCell<Option<Gc<u8>>>>;

/// Sixteen objects of one byte, the first in a new slot, for the collection before has left none to share. `holder` gets one of them.
#[inline(never)]
fn hatch(holder: Option<(Holder, usize)>) -> [Hidden; COUNT] {
    collect_cleanly();
    let objects: [Gc<u8>; COUNT] = core::array::from_fn(|nth| Gc::new(nth as u8));
    assert!(black_box(&objects).iter().enumerate().all(|(nth, object)| **object == nth as u8));
    if let Some((holder, nth)) = holder {
        holder.set(Some(objects[nth]));
    }
    objects.map(Hidden::of)
}

/// How many slots the objects are in.
fn slots(objects: &[Hidden]) -> usize {
    1 + objects.windows(2).filter(|pair| pair[0].inverted() / 16 != pair[1].inverted() / 16).count()
}

fn holder() -> Holder {
    Gc::new(GcCell::null())
}

#[kernel_test(unstressed)]
fn sixteen_objects_of_a_byte_share_a_slot_which_any_one_of_them_keeps() {
    for survivor in [0, 7, COUNT - 1] {
        let holder = holder();
        let objects = hatch(Some((holder, survivor)));
        assert_eq!(slots(&objects), 1);
        collect_cleanly();
        assert!(objects.iter().all(|object| object.is_allocated()), "the slot is one object's for the collector");
        assert_eq!(holder.get().map(|object| *object), Some(survivor as u8));
    }
}

#[kernel_test]
fn a_slot_shared_by_dead_objects_only_is_free() {
    let objects = hatch(None);
    assert!(objects.iter().all(|object| object.is_allocated()));
    collect_cleanly();
    assert!(!objects.iter().any(|object| object.is_allocated()));
}

#[kernel_test(off)]
fn without_combining_sixteen_objects_of_a_byte_are_in_sixteen_slots() {
    let _off = disable(Mechanism::TinyCombining);
    let holder = holder();
    let objects = hatch(Some((holder, 7)));
    assert_eq!(slots(&objects), COUNT);
    collect_cleanly();
    assert_eq!(objects.iter().filter(|object| object.is_allocated()).count(), 1);
    assert_eq!(holder.get().map(|object| *object), Some(7));
}

#[kernel_test(unstressed)]
fn objects_that_share_a_slot_are_counted() {
    let count = || memory_stats().tiny_allocs;
    let before = count();
    hatch(None);
    assert_eq!(count() - before, COUNT - 1);
    collect();
    assert_eq!(count() - before, COUNT - 1);
}

/// Clearing the last byte of a slot by the word would reach into the next slot.
#[kernel_test(unstressed)]
fn a_zeroed_byte_is_zero_and_leaves_its_neighbours_alone() {
    collect_cleanly();
    let neighbours: [Gc<u8>; COUNT - 1] = core::array::from_fn(|_| Gc::new(0xff));
    let next_slot = Gc::new([0xffu8; 16]);
    let last = Gc::<u8>::zeroed();
    assert_eq!(Hidden::of(last).inverted(), Hidden::of(neighbours[0]).inverted() - (COUNT - 1));
    assert_eq!(*last, 0);
    assert!(black_box(&neighbours).iter().all(|object| **object == 0xff));
    assert_eq!(*next_slot, [0xff; 16]);
    assert_eq!(Gc::as_ptr(next_slot).addr(), Gc::as_ptr(last).addr() + 1, "the last byte borders on the next slot");
}
