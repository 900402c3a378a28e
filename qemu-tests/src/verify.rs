//! The verification switches: each shows a mistake that goes unnoticed without it.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::report;
use runtime::switch_off::{Mechanism, disable};

const JUNK: u64 = 0xdead_beef_dead_beef;

/// What is at an address, whoever has it.
fn peek(address: usize) -> u64 {
    let word: u64;
    // SAFETY: reads memory that the heap has; assembly, because the object that was there is dead.
    unsafe { asm!("mov {}, [{}]", out(reg) word, in(reg) address, options(nostack, readonly)) };
    word
}

/// A reference that should not be.
fn forge<T>(object: Hidden) -> Gc<T> {
    // SAFETY: a `Gc` is one pointer that is not null. This one dangles, which is the mistake to be found; nobody follows it.
    unsafe { core::mem::transmute(!object.inverted()) }
}

// gccheckmark

/// Nothing but a pointer into the middle of an object holds it while the collector is blind for such.
fn miss_an_object() {
    #[inline(never)]
    fn middle() -> &'static u64 {
        // SAFETY: kept by the very pointer.
        unsafe { &*core::ptr::from_ref(Canary::hatch().middle()) }
    }
    let pointer = [middle()];
    black_box(&pointer);
    let _off = disable(Mechanism::InteriorPointers);
    collect_cleanly();
    black_box(&pointer);
}

#[kernel_test(off, status = 2, cmdline = "GODEBUG=gccheckmark=1", says = "gccheckmark: object 0x")]
fn gccheckmark_names_an_object_that_was_reachable_and_not_marked() {
    miss_an_object();
}

#[kernel_test(off, status = 2, cmdline = "GODEBUG=gccheckmark=1", says = "refers to it, in goroutine 1's stack")]
fn gccheckmark_names_the_root_that_was_not_scanned() {
    let object = [Canary::hatch()];
    black_box(&object);
    let _off = disable(Mechanism::StackRoots);
    collect_cleanly();
    black_box(&object);
}

#[kernel_test(off, status = 2, cmdline = "GODEBUG=gccheckmark=1", says = "refers to it, in object 0x")]
fn gccheckmark_names_the_object_that_was_not_scanned() {
    let objects: Vec<Gc<Canary>> = (0..10).map(|_| Canary::hatch()).collect();
    let _off = disable(Mechanism::AmbiguousScan);
    collect_cleanly();
    black_box(&objects);
}

#[kernel_test(off, status = 2, cmdline = "GODEBUG=gccheckmark=1", says = "refers to it, in the statics")]
fn gccheckmark_names_the_statics_that_were_not_scanned() {
    static SLOT: GcCell<Option<Gc<Canary>>> = GcCell::null();
    hatch_into(|object| SLOT.set(Some(object)));
    let _off = disable(Mechanism::StaticRoots);
    collect_cleanly();
    black_box(SLOT.get());
}

#[kernel_test(off, status = 0)]
fn without_gccheckmark_a_missed_object_goes_unnoticed() {
    miss_an_object();
}

#[kernel_test(status = 0, cmdline = "GODEBUG=gccheckmark=1")]
fn gccheckmark_follows_more_objects_than_can_wait() {
    let wide: Vec<Gc<Canary>> = (0..50_000).map(|_| Canary::hatch()).collect();
    collect();
    assert!(black_box(&wide).iter().all(|object| object.is_intact()));
}

// invalidptr

#[derive(Trace)]
struct Holder {
    number: u64,
    object: Gc<Canary>,
}

#[derive(Trace)]
enum Either {
    Number(usize),
    Object(Gc<Canary>),
}

/// Where an object was, beside one that keeps its span.
fn freed_slot() -> (Gc<Canary>, Hidden) {
    let neighbour = Canary::hatch();
    let freed = hatch_into(|_| ());
    collect_cleanly();
    assert!(!freed.is_allocated());
    (neighbour, freed)
}

fn collect_with_bad_pointer() -> u64 {
    let (neighbour, freed) = freed_slot();
    let holder = Gc::new(Holder { number: 7, object: forge(freed) });
    collect();
    black_box(neighbour);
    black_box(holder).number
}

#[kernel_test(status = 2, says = "found bad pointer in Go heap: 0x")]
fn a_reference_to_a_freed_object_is_fatal() {
    collect_with_bad_pointer();
}

#[kernel_test(status = 2, says = "of object 0x")]
fn a_bad_reference_names_its_holder() {
    collect_with_bad_pointer();
}

#[kernel_test(status = 0, cmdline = "GODEBUG=invalidptr=0")]
fn with_invalidptr_0_a_bad_reference_goes_unnoticed() {
    assert_eq!(collect_with_bad_pointer(), 7);
}

#[kernel_test(status = 2, says = "leads to a free page")]
fn a_reference_to_a_free_page_is_fatal() {
    #[inline(never)]
    fn large() -> Hidden {
        let object = alloc::vec![7u64; 100_000];
        // From its middle on: the next span takes the lowest free page.
        let address = !black_box(&object)[50_000..].as_ptr().addr();
        core::mem::forget(object);
        Hidden::from_inverted(address)
    }
    let freed = large();
    collect_cleanly();
    assert!(!freed.is_allocated());
    let holder = Gc::new(Holder { number: 7, object: forge(freed) });
    collect();
    black_box(holder);
}

#[kernel_test]
fn a_word_that_only_may_be_a_reference_is_never_fatal() {
    let (neighbour, freed) = freed_slot();
    let stale = !freed.inverted();
    let objects = [Gc::new(Either::Number(stale)), Gc::new(Either::Object(neighbour))];
    let results: [Gc<Result<Gc<Canary>, usize>>; 2] = [Gc::new(Err(stale)), Gc::new(Ok(neighbour))];
    let vector = alloc::vec![stale; 3];
    collect();
    assert!(matches!(*black_box(objects[0]), Either::Number(word) if word == stale));
    assert!(matches!(*black_box(objects[1]), Either::Object(object) if object.is_intact()));
    assert!(matches!(*black_box(results[0]), Err(word) if word == stale) && results[1].is_ok());
    assert_eq!(black_box(vector)[2], stale);
}

#[kernel_test]
fn null_and_objects_of_no_size_are_no_bad_references() {
    #[derive(Trace)]
    struct Empty {
        next: GcCell<Option<Gc<Empty>>>,
        unit: Gc<()>,
    }
    let object = Gc::new(Empty { next: GcCell::null(), unit: Gc::new(()) });
    collect();
    assert!(black_box(object).next.get().is_none());
    let () = *object.unit;
}

// clobberfree

fn swept_word() -> u64 {
    let (neighbour, freed) = freed_slot();
    black_box(neighbour);
    peek(!freed.inverted() + 24)
}

fn dropped_word() -> u64 {
    let object = Box::new([7u64; 6]);
    let address = !black_box(&object).as_ptr().addr();
    drop(object);
    peek(!address + 24)
}

fn dropped_large_word() -> u64 {
    let object = alloc::vec![7u64; 100_000];
    let address = !black_box(&object).as_ptr().addr();
    drop(object);
    peek(!address + 24)
}

#[kernel_test(cmdline = "GODEBUG=clobberfree=1")]
fn clobberfree_fills_what_is_freed_with_junk() {
    assert_eq!([swept_word(), dropped_word(), dropped_large_word()], [JUNK; 3]);
}

#[kernel_test(unstressed)]
fn without_clobberfree_freed_memory_reads_as_before() {
    assert_eq!([swept_word(), dropped_word(), dropped_large_word()], [Canary::MIDDLE, 7, 7]);
}

// gcstress

const ALLOCATIONS: u64 = 1000;

/// How many collections 1000 allocations of every kind bring.
fn collections() -> u64 {
    let before = runtime::cycles();
    for number in 0..ALLOCATIONS {
        match number % 5 {
            0 => _ = black_box(Canary::hatch()),
            1 => _ = black_box(Gc::new(Either::Number(5))),
            2 => _ = black_box(Box::new(number)),
            3 => _ = black_box("text".to_string()),
            _ => _ = black_box(Vec::<u8>::with_capacity(40_000)),
        }
    }
    runtime::cycles() - before
}

#[kernel_test(cmdline = "GODEBUG=gcstress=10")]
fn gcstress_collects_at_every_nth_allocation_of_any_kind() {
    assert_eq!(collections(), ALLOCATIONS / 10);
}

#[kernel_test(cmdline = "GOGC=off,GODEBUG=gcstress=1")]
fn gcstress_1_collects_at_every_allocation() {
    let start = runtime::now();
    assert_eq!(collections(), ALLOCATIONS);
    report!("gcstress=1: {} ns an allocation", (runtime::now() - start) / ALLOCATIONS);
}

#[kernel_test(unstressed)]
fn without_gcstress_a_thousand_allocations_bring_few_collections() {
    let start = runtime::now();
    assert!(collections() < 10);
    report!("without gcstress: {} ns an allocation", (runtime::now() - start) / ALLOCATIONS);
}
