//! What is dropped goes, what is held stays, and what cannot be had is an answer.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into};
use crate::panics::AllFrames;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// A span or two in the CPU's cache count as allocated, and a stale word may keep a thing or two.
const TOLERANCE_BYTES: usize = 64 << 10;

/// What the heap holds after a collection.
fn live_bytes() -> usize {
    collect_cleanly();
    memory_stats().heap_alloc
}

/// Runs `f` on a stack of its own, of which nothing is left afterwards.
fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    go(f).join()
}

/// Whether the heap is as large after `f` has run on another thread as it was before. `f` says whether it found all well.
fn leaves_nothing(f: fn() -> bool) -> bool {
    let before = live_bytes();
    assert_eq!(elsewhere(f), Ok(true));
    live_bytes() < before + TOLERANCE_BYTES
}

#[derive(Trace)]
struct Node {
    number: u64,
    next: GcCell<Option<Gc<Node>>>,
}

const RING: u64 = 1_000_000;

fn ring() -> Gc<Node> {
    let last = Gc::new(Node { number: 0, next: GcCell::null() });
    let first = (1..RING).fold(last, |next, number| Gc::new(Node { number, next: GcCell::new(Some(next)) }));
    last.next.set(Some(first));
    last
}

/// From the last node all around.
fn is_ring(last: Gc<Node>) -> bool {
    let around = core::iter::successors(last.next.get(), |node| node.next.get());
    around.take(2 * RING as usize).map(|node| node.number).eq((0..2 * RING).rev().map(|number| number % RING))
}

fn held_ring_survives() -> bool {
    let ring = ring();
    collect();
    is_ring(ring)
}

/// In a boot of its own: a stale word of an earlier test in a frame of the main thread's may point into so large a
/// ring, and holds all of it.
#[kernel_test(status = 0)]
fn a_ring_of_a_million_nodes_is_held_whole_and_dropped_whole() {
    assert!(leaves_nothing(held_ring_survives));
}

/// Leads to the next one of a ring, and to one far away. Of so many, tens of thousands wait at a time to be looked at.
#[derive(Trace)]
struct Knot {
    next: GcCell<Option<Gc<Knot>>>,
    other: GcCell<Option<Gc<Knot>>>,
}

const KNOTS: usize = 100_000;

fn knots() -> Gc<Knot> {
    let mut knots: Vec<_> = (0..KNOTS).map(|_| Gc::new(Knot { next: GcCell::null(), other: GcCell::null() })).collect();
    for (index, knot) in knots.iter().enumerate() {
        knot.next.set(Some(knots[(index + 1) % KNOTS]));
        knot.other.set(Some(knots[index * 7919 % KNOTS]));
    }
    let first = knots[0];
    knots.fill(first);
    first
}

/// How many objects a collection finds live that has no memory for its own work.
fn found_without_memory() -> usize {
    let knots = elsewhere(knots).expect("64 MiB are enough");
    collect_cleanly();
    let all = AllFrames::take();
    collect();
    drop(all);
    black_box(knots);
    memory_stats().heap_objects
}

#[kernel_test(status = 0, mem = "64M")]
fn a_collection_needs_no_memory() {
    assert!(found_without_memory() >= KNOTS);
}

#[kernel_test(off, status = 0, mem = "64M")]
fn without_the_search_for_dropped_work_a_collection_without_memory_loses_objects() {
    let _off = disable(Mechanism::DroppedWork);
    assert!(found_without_memory() < KNOTS);
}

#[kernel_test(off)]
fn without_the_sweep_a_dropped_object_stays() {
    let object = hatch_into(|_| ());
    let off = disable(Mechanism::Sweep);
    collect_cleanly();
    assert!(object.is_allocated());
    drop(off);
    collect_cleanly();
    assert!(!object.is_allocated());
}

/// Of what was there before, a byte is left in every slot and page that would be found.
fn zeroed_where_there_was_something<const BYTES: usize>() -> Gc<[u8; BYTES]> {
    drop(vec![0xa5u8; BYTES]);
    Gc::zeroed()
}

#[kernel_test]
fn a_zeroed_object_is_zero_whatever_was_there_before() {
    assert_eq!(*zeroed_where_there_was_something::<1>(), [0]);
    assert!(zeroed_where_there_was_something::<100>().iter().all(|byte| *byte == 0));
    assert!(zeroed_where_there_was_something::<8192>().iter().all(|byte| *byte == 0));
    assert!(zeroed_where_there_was_something::<{ 1 << 20 }>().iter().all(|byte| *byte == 0));
    drop(vec![usize::MAX; 100]);
    assert!(Gc::<[GcCell<Option<Gc<u64>>>; 100]>::zeroed().iter().all(|cell| cell.get().is_none()));
}

#[kernel_test]
fn pauses_and_allocations_add_up_over_collections() {
    const ROUNDS: usize = 3;
    collect_cleanly();
    let before = memory_stats();
    for _ in 0..ROUNDS {
        black_box(Gc::<[u8; 1 << 20]>::zeroed());
        collect_cleanly();
    }
    let after = memory_stats();
    let cycles = before.num_gc as usize..after.num_gc as usize;
    assert!(cycles.len() >= ROUNDS);
    let cycles = cycles.map(|cycle| after.pause_ns[cycle % after.pause_ns.len()]);
    assert_eq!(cycles.sum::<u64>(), after.pause_total_ns - before.pause_total_ns);
    let allocated = after.total_alloc - before.total_alloc;
    assert!((ROUNDS << 20..(ROUNDS << 20) + TOLERANCE_BYTES).contains(&allocated), "{allocated}");
    // 320 bytes a span, 8 a page.
    assert!(after.mspan_sys > 0 && after.gc_sys >= after.heap_sys / 1024);
}

#[kernel_test]
fn a_dropped_object_goes() {
    let object = hatch_into(|_| ());
    assert!(object.is_allocated());
    collect_cleanly();
    assert!(!object.is_allocated());
}

#[kernel_test]
fn a_vector_holds_its_objects_and_goes_when_forgotten() {
    assert!(leaves_nothing(|| {
        let objects: Vec<Gc<Canary>> = (0..20_000).map(|_| Canary::hatch()).collect();
        collect();
        let intact = black_box(&objects).iter().all(|object| object.is_intact());
        core::mem::forget(objects);
        intact
    }));
}

#[kernel_test]
fn a_map_holds_its_objects_and_goes_when_forgotten() {
    assert!(leaves_nothing(|| {
        let mut objects: BTreeMap<u64, (String, Gc<Canary>)> = BTreeMap::new();
        for key in 0..20_000 {
            objects.insert(key * 7919 % 20_011, (alloc::format!("number {key}"), Canary::hatch()));
        }
        collect();
        let intact = objects.len() == 20_000
            && (0..20_000).all(|key| {
                let entry = objects.get(&(key * 7919 % 20_011));
                entry.is_some_and(|(text, object)| *text == alloc::format!("number {key}") && object.is_intact())
            });
        core::mem::forget(objects);
        intact
    }));
}

#[derive(Trace)]
#[expect(clippy::large_enum_variant, reason = "one variant is to make the type larger than a mask")]
enum Shape {
    Numbers(u64, u64),
    Objects(Gc<Canary>, Option<Gc<Shape>>),
    Text { text: Vec<Gc<Canary>>, large: [u64; 100] },
}

#[kernel_test]
fn enums_and_large_objects_hold_theirs() {
    assert!(leaves_nothing(|| {
        let text = Shape::Text { text: alloc::vec![Canary::hatch(); 3], large: [1; 100] };
        let shapes = Gc::new(Shape::Objects(Canary::hatch(), Some(Gc::new(text))));
        let numbers = Gc::new(Shape::Numbers(1, Hidden::of(shapes).inverted() as u64));
        collect();
        let Shape::Objects(object, Some(next)) = &*black_box(shapes) else { return false };
        let Shape::Text { text, large } = &**next else { return false };
        let numbers_are_same =
            matches!(&*numbers, Shape::Numbers(1, word) if *word == Hidden::of(shapes).inverted() as u64);
        object.is_intact() && text.iter().all(|object| object.is_intact()) && *large == [1; 100] && numbers_are_same
    }));
}

#[kernel_test]
fn garbage_is_collected_as_it_comes() {
    let before = runtime::cycles();
    for _ in 0..1_000_000 {
        black_box(Canary::hatch());
    }
    assert!(runtime::cycles() > before);
    assert!(memory_stats().heap_alloc < 16 << 20);
}

/// A list that grows until there is no memory.
fn exhaust() -> Gc<Node> {
    let mut head = Gc::new(Node { number: 0, next: GcCell::null() });
    loop {
        head = Gc::new(Node { number: head.number + 1, next: GcCell::new(Some(head)) });
    }
}

#[kernel_test(status = 2, says = "out of memory", mem = "64M")]
fn out_of_memory_on_the_main_thread_ends_the_program() {
    black_box(exhaust());
}

#[kernel_test(status = 0, mem = "64M")]
fn out_of_memory_on_another_thread_ends_that_thread_only() {
    let other = go(|| {
        let objects = [Canary::hatch()];
        black_box(&objects);
        yield_now();
        black_box(&objects)[0].is_intact()
    });
    assert_eq!(elsewhere(|| black_box(exhaust()).number), Err(Failure::OutOfMemory));
    assert_eq!(other.join(), Ok(true));
    // Its list is garbage now.
    assert!(live_bytes() < 4 << 20);
    assert_eq!(elsewhere(held_ring_survives), Ok(true));
}

#[kernel_test(status = 0, mem = "64M")]
fn asking_for_too_much_is_an_error_and_no_more() {
    let mut vector: Vec<u64> = Vec::new();
    assert!(vector.try_reserve_exact(1 << 30).is_err());
    assert!(vector.try_reserve_exact(1000).is_ok());
}

#[kernel_test(status = 0, cmdline = "GODEBUG=gctrace=1", says = "gc 1 @")]
fn a_collection_is_traced() {
    collect();
}
