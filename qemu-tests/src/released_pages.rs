//! The memory of free pages goes back to the machine, when somebody asks, when nobody does, and when a limit demands it; and it comes again
//! when its pages are needed.

use crate::clock::MS;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::{KIB, MIB};
use runtime::inspect::free_memory;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::{kernel_test, report};

const PATIENCE_NS: u64 = 60_000 * MS;
const TWO_MINUTES_NS: u64 = 120_000 * MS;

#[kernel_test]
fn a_large_objects_memory_goes_back_to_the_machine_and_comes_again() {
    const LONG: usize = 64 * MIB;
    // Other objects may have taken some of its pages meanwhile.
    const MOST_OF_IT: usize = LONG - 8 * MIB;
    drop(black_box(Vec::<u8>::with_capacity(LONG)));
    let before = free_memory().0;
    free_os_memory();
    let (back, released) = (free_memory().0 - before, memory_stats().heap_released);
    assert!(back >= MOST_OF_IT, "{back} bytes came back");
    let mut again = black_box(Vec::<u8>::with_capacity(LONG));
    assert!(memory_stats().heap_released <= released - MOST_OF_IT);
    again.resize(LONG, 7);
    assert!(again.iter().all(|&byte| byte == 7));
}

#[cfg(target_os = "none")]
#[kernel_test]
fn free_pages_between_objects_are_enough_for_a_long_object_elsewhere() {
    let count = free_memory().0 * 6 / 10 / MIB;
    let pieces: Vec<Vec<u8>> = (0..count).map(|_| black_box(Vec::with_capacity(MIB - 1))).collect();
    let pieces: Vec<Vec<u8>> = pieces.into_iter().step_by(2).collect();
    let long = free_memory().0 + count / 4 * MIB;
    assert_eq!(black_box(&mut Vec::<u8>::new()).try_reserve_exact(long), Ok(()));
    drop(pieces);
    free_os_memory();
}

/// Whether a long object finds its memory in free pages between others.
fn is_there_room_between(percent: Option<u32>) -> bool {
    free_os_memory();
    let old = set_gc_percent(None);
    let count = free_memory().0 * 6 / 10 / MIB;
    let pieces: Vec<Vec<u8>> = (0..count).map(|_| black_box(Vec::with_capacity(MIB - 1))).collect();
    let pieces: Vec<Vec<u8>> = pieces.into_iter().step_by(2).collect();
    set_gc_percent(percent);
    let long = free_memory().0 + count / 4 * MIB;
    let is_there = black_box(&mut Vec::<u8>::new()).try_reserve_exact(long).is_ok();
    drop(pieces);
    set_gc_percent(old);
    is_there
}

#[kernel_test]
fn free_pages_are_enough_for_a_long_object_at_the_trigger_and_without_a_collector() {
    for percent in [Some(100), None] {
        // On a stack of its own, of which nothing is left.
        assert_eq!(go(move || is_there_room_between(percent)).join(), Ok(true), "{percent:?}");
    }
    free_os_memory();
}

/// How much memory the machine has back after a heap of 64 MiB has died and nobody has done anything for a while, and how much more of the
/// heap has none. Waits for most of it, but not for ever.
fn returned_while_idle(within_ns: u64) -> (usize, usize) {
    let garbage = go(|| {
        let pieces: Vec<Vec<u8>> = (0..64).map(|_| alloc::vec![1; MIB - 1]).collect();
        core::mem::forget(black_box(pieces));
    });
    assert_eq!(garbage.join(), Ok(()));
    runtime::set_forced_period(20 * MS);
    let (before, released, start_ns) = (free_memory().0, memory_stats().heap_released, now());
    let returned = || free_memory().0.saturating_sub(before);
    while returned() < 48 * MIB && now() - start_ns < within_ns {
        sleep(10 * MS);
    }
    runtime::set_forced_period(TWO_MINUTES_NS);
    (returned(), memory_stats().heap_released.saturating_sub(released))
}

#[kernel_test(unstressed)]
fn an_idle_machine_has_the_memory_of_a_dead_heap_back_without_anybody_asking() {
    let (returned, released) = returned_while_idle(PATIENCE_NS);
    assert!(returned >= 48 * MIB);
    assert!(released >= 47 * MIB, "its pages are still the heap's");
    let stats = memory_stats();
    // It keeps what it will need.
    assert!(stats.heap_sys - stats.heap_released >= stats.next_gc.min(4 * MIB));
}

#[kernel_test(off)]
fn without_the_scavenger_an_idle_machine_has_nothing_back() {
    let _off = disable(Mechanism::Scavenger);
    assert!(returned_while_idle(1000 * MS).0 < MIB);
}

/// What the runtime has of the machine's memory.
fn mapped() -> usize {
    let stats = memory_stats();
    stats.sys - stats.heap_released
}

/// Keeps about 16 MiB alive, replaces them 20 times by pieces of all sizes, and returns how much memory that took at most.
fn most_mapped() -> usize {
    let mut pieces: Vec<Vec<u8>> = (0..256).map(|_| Vec::new()).collect();
    let (mut random, mut most) = (1_u32, 0);
    for number in 0..20 * pieces.len() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // 1 KiB to 255 KiB.
        let bytes = 1024 + (random >> 14);
        // The old one is the collector's.
        core::mem::forget(core::mem::replace(&mut pieces[number % 256], black_box(alloc::vec![1; bytes as usize])));
        most = most.max(mapped());
    }
    most
}

#[kernel_test(unstressed)]
fn all_memory_stays_below_the_limit_and_goes_beyond_without_one() {
    let percent = set_gc_percent(Some(400));
    free_os_memory();
    let limit = mapped() + 48 * MIB;
    let old = set_memory_limit(Some(limit));
    let limited = go(most_mapped).join();
    assert_eq!(set_memory_limit(old), Some(limit));
    let unlimited = go(most_mapped).join();
    set_gc_percent(percent);
    let [limited, unlimited] = [limited, unlimited].map(|most| most.expect("it ends"));
    report!("{} KiB at most under a limit of {} KiB, {} KiB without", limited >> 10, limit >> 10, unlimited >> 10);
    // A stack that grows, or a page table, takes frames that the heap makes way for when it next grows itself.
    assert!(limited <= limit + 64 * KIB && unlimited > limit + 16 * MIB);
}

/// What is mapped after a while, or as soon as it is no more than `goal`.
fn mapped_when_idle(goal: usize, within_ns: u64) -> usize {
    let start_ns = now();
    while mapped() > goal && now() - start_ns < within_ns {
        sleep(10 * MS);
    }
    mapped()
}

#[kernel_test(unstressed)]
fn near_the_limit_pieces_of_huge_pages_go_back_in_the_background_too() {
    let percent = set_gc_percent(Some(1000));
    let pieces: Vec<Vec<u8>> = (0..64).map(|_| alloc::vec![1; MIB - 1]).collect();
    let pieces: Vec<Vec<u8>> = pieces.into_iter().step_by(2).collect();
    let limit = mapped();
    let goal = limit - limit / 20;
    assert!(mapped_when_idle(goal, 500 * MS) > goal, "each of them has something in use");
    let old = set_memory_limit(Some(limit));
    let mapped = mapped_when_idle(goal, PATIENCE_NS);
    set_memory_limit(old);
    set_gc_percent(percent);
    assert!(mapped <= goal, "{mapped} of {limit}");
    assert!(pieces.iter().flatten().all(|&byte| byte == 1));
}

#[kernel_test]
fn the_parts_add_up_to_what_the_machine_has_given() {
    fn use_stack(depth: usize) -> usize {
        let frame = black_box([depth; 512]);
        if depth == 0 { 0 } else { use_stack(depth - 1) + frame[depth % 512] }
    }
    // Asking may make the stack grow, and the timer's tick release something.
    let measure = || {
        loop {
            let (free, stats) = (free_memory().0, memory_stats());
            if free_memory().0 == free {
                return (free, stats);
            }
        }
    };
    let (free_before, before) = measure();
    let (free_after, after) = go(move || {
        let long: Vec<u8> = black_box(alloc::vec![1; 32 * MIB]);
        // 4 MiB.
        use_stack(1000);
        let figures = measure();
        drop(black_box(long));
        figures
    })
    .join()
    .expect("it ends");
    assert!(after.stack_sys - before.stack_sys >= 4 * MIB && after.heap_inuse >= 32 * MIB);
    for stats in [&before, &after] {
        let sum = stats.heap_sys + stats.stack_sys + stats.mspan_sys + stats.gc_sys + stats.other_sys;
        assert_eq!((stats.sys, stats.heap_sys), (sum, stats.heap_inuse + stats.heap_idle));
    }
    let taken = (after.sys - after.heap_released) - (before.sys - before.heap_released);
    assert_eq!(taken, free_before - free_after);
    // Page tables, and what waits for page faults.
    let others = after.other_sys.abs_diff(before.other_sys);
    assert!(others < MIB, "{others} bytes have no name");
}
