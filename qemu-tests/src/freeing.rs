//! What is freed by hand is used again at once, beside the collector; what cannot be freed is named.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into};
use alloc::alloc::{alloc, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;
use runtime::addr::MIB;
use runtime::inspect::free_memory;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Whether the next object of a type has the place of one that was freed.
fn is_reused<T: Trace + Copy + 'static>(value: T) -> bool {
    let object = black_box(Gc::new(value));
    let place = Gc::as_ptr(object);
    // SAFETY: it is not used again; only its address is compared.
    unsafe { Gc::free(object) };
    Gc::as_ptr(black_box(Gc::new(value))) == place
}

#[kernel_test(unstressed)]
fn a_freed_object_makes_room_for_the_next() {
    let reference = Gc::new(1u64);
    assert!(is_reused([1u64; 6]), "without references");
    assert!(is_reused((reference, 1u64)), "with a map");
    assert!(is_reused([Some(reference); 100]), "with too many for a map");
    assert!(!is_reused(1u8), "tiny: others may share its slot");
}

#[kernel_test(off, unstressed)]
fn without_explicit_free_the_next_object_has_another_place() {
    let _off = disable(Mechanism::ExplicitFree);
    let reference = Gc::new(1u64);
    assert!(!is_reused([1u64; 6]) && !is_reused((reference, 1u64)) && !is_reused([Some(reference); 100]));
}

/// More objects of a size than a span has: the first one's span is full, and in no cache.
fn span_and_more() -> Vec<Gc<Canary>> {
    black_box((0..200).map(|_| Canary::hatch()).collect())
}

/// Whether an object freed in a full span is free although a handle to it is left.
fn is_free_at_once() -> bool {
    let objects = span_and_more();
    let place = Hidden::of(objects[0]);
    // SAFETY: it is not used again, handle or not.
    unsafe { Gc::free(objects[0]) };
    let is_free = !place.is_allocated();
    collect_cleanly();
    assert_eq!(is_free, !place.is_allocated());
    assert!(black_box(&objects)[1..].iter().all(|object| object.is_intact()));
    is_free
}

#[kernel_test]
fn an_object_freed_in_a_full_span_is_free() {
    assert!(is_free_at_once());
}

#[kernel_test(off)]
fn without_explicit_free_an_object_lives_as_long_as_a_handle() {
    let _off = disable(Mechanism::ExplicitFree);
    assert!(!is_free_at_once());
}

/// How a thread ends that takes a quarter of the memory six times, and frees all by hand each time, while nothing is collected.
fn frees_by_hand_without_a_collector() -> Result<(), Failure> {
    let percent = set_gc_percent(None);
    let end = go(|| {
        let count = free_memory().0 / 4 / 64;
        for _ in 0..6 {
            let mut blocks = Vec::with_capacity(count);
            blocks.extend((0..count).map(|number| Box::new([number; 6])));
            drop(black_box(blocks));
        }
    });
    let end = end.join();
    set_gc_percent(percent);
    free_os_memory();
    end
}

#[kernel_test(unstressed)]
fn what_is_freed_by_hand_is_used_again_without_a_collector() {
    assert_eq!(frees_by_hand_without_a_collector(), Ok(()));
}

#[kernel_test(off, unstressed)]
fn unless_the_lists_are_looked_through_it_is_out_of_reach() {
    let _off = disable(Mechanism::Relisting);
    assert_eq!(frees_by_hand_without_a_collector(), Err(Failure::OutOfMemory));
}

#[kernel_test(unstressed)]
fn a_freed_large_objects_memory_is_nobodys_at_once() {
    let object = Gc::<[u8; MIB]>::zeroed();
    let before = memory_stats().heap_inuse;
    let place = Hidden::of(object);
    // SAFETY: it is not used again.
    unsafe { Gc::free(object) };
    assert_eq!((memory_stats().heap_inuse, place.is_allocated()), (before - MIB, false));
}

/// Some objects are freed by hand, some by the collector; under stress collections come between any two.
#[kernel_test]
fn objects_freed_by_hand_and_by_the_collector_do_not_meet() {
    const HELD: usize = 500;
    let mut objects: Vec<_> = (0..HELD).map(|_| Canary::hatch()).collect();
    for round in 0..20 * HELD {
        let index = round * 7919 % HELD;
        let old = core::mem::replace(&mut objects[index], Canary::hatch());
        assert!(old.is_intact());
        if round % 3 != 0 {
            // SAFETY: it was in the list alone.
            unsafe { Gc::free(old) };
        }
        if round % (4 * HELD) == 0 {
            collect_cleanly();
        }
    }
    assert!(objects.iter().all(|object| object.is_intact()));
}

const LAYOUT: Layout = Layout::new::<[u64; 6]>();

fn block() -> *mut u8 {
    // SAFETY: the layout has a size.
    black_box(unsafe { alloc(LAYOUT) })
}

#[kernel_test(status = 2, says = "found that it has been freed already")]
fn freeing_a_block_twice_is_fatal() {
    let block = block();
    // SAFETY: once is right; twice is what the test is about.
    unsafe {
        dealloc(block, LAYOUT);
        dealloc(black_box(block), LAYOUT);
    }
}

/// Frees it twice.
fn free_twice(object: Gc<Canary>) {
    // SAFETY: once is right; twice is what the test is about.
    unsafe {
        Gc::free(object);
        Gc::free(black_box(object));
    }
}

#[kernel_test(status = 2, says = "found that it has been freed already")]
fn freeing_an_object_of_a_full_span_twice_is_fatal() {
    free_twice(span_and_more()[0]);
}

#[kernel_test(status = 2, says = "found that it has been freed already")]
fn freeing_an_object_twice_before_its_span_is_swept_is_fatal() {
    // Enough that much is unswept when the cycle has ended.
    let objects: Vec<_> = (0..100_000).map(|_| Canary::hatch()).collect();
    let cycles = runtime::cycles();
    while runtime::cycles() == cycles {
        black_box(Canary::hatch());
    }
    free_twice(black_box(&objects)[objects.len() / 2]);
}

#[kernel_test(status = 2, says = "found that it has been freed already")]
fn freeing_an_object_that_was_collected_is_fatal() {
    let neighbours = span_and_more();
    let place = hatch_into(|_| ());
    collect_cleanly();
    let stale = core::ptr::with_exposed_provenance_mut(!place.inverted());
    // SAFETY: not at all: that is what the test is about.
    unsafe { dealloc(stale, Layout::new::<[u32; 12]>()) };
    black_box(neighbours);
}

#[kernel_test(status = 2, says = "found that it is in no object of the heap")]
fn freeing_what_is_not_of_the_heap_is_fatal() {
    let mut local = [0u64; 6];
    // SAFETY: not at all: that is what the test is about.
    unsafe { dealloc(black_box(&raw mut local).cast(), LAYOUT) };
}

#[kernel_test(status = 2, says = "found the inside of an object of 64 bytes (Ambiguous)")]
fn freeing_the_inside_of_a_block_is_fatal() {
    // SAFETY: the address is the block's; freeing it is what the test is about.
    unsafe { dealloc(block().add(8), LAYOUT) };
}

#[kernel_test(status = 2, says = "expected an object of 24 bytes (Ambiguous)")]
fn freeing_a_block_as_another_size_is_fatal() {
    // SAFETY: not at all: that is what the test is about.
    unsafe { dealloc(block(), Layout::new::<[u64; 2]>()) };
}

const LARGE: Layout = Layout::new::<[u8; MIB]>();

fn large_block() -> *mut u8 {
    // SAFETY: the layout has a size.
    black_box(unsafe { alloc(LARGE) })
}

#[kernel_test(
    status = 2,
    says = "expected an object of 2097152 bytes (Noscan)|found an object of 1048576 bytes (Noscan)"
)]
fn freeing_a_large_block_as_another_size_is_fatal() {
    // SAFETY: not at all: that is what the test is about.
    unsafe { dealloc(large_block(), Layout::new::<[u8; 2 * MIB]>()) };
}

/// Frees an address in the middle of a block.
fn free_the_middle(block: *mut u8) {
    // SAFETY: the address is the block's; freeing it is what the test is about.
    unsafe { dealloc(block.add(MIB / 2), LARGE) };
}

#[kernel_test(status = 2, says = "found the inside of an object of 1048576 bytes (Noscan)")]
fn freeing_the_middle_of_a_large_block_is_fatal() {
    free_the_middle(large_block());
}

#[kernel_test(off)]
fn without_the_check_freeing_the_middle_of_a_block_frees_it_under_its_owner() {
    let _off = disable(Mechanism::FreeCheck);
    let block = large_block();
    let is_there = || runtime::inspect::is_allocated(block.addr());
    assert!(is_there());
    free_the_middle(block);
    assert!(!is_there());
}

#[kernel_test(status = 2, says = "found that it is in no object of the heap")]
fn freeing_a_large_object_twice_is_fatal() {
    let object = Gc::<[u8; MIB]>::zeroed();
    // SAFETY: once is right; twice is what the test is about.
    unsafe {
        Gc::free(object);
        Gc::free(black_box(object));
    }
}
