//! Sweeping while the program runs: garbage makes room before the heap grows, others run meanwhile, and no cycle begins in what another has
//! left.

use crate::canary::{Canary, collect_cleanly, hatch_into, overwrite_dead_frames};
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use runtime::addr::{KIB, MIB};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Objects for so many bytes.
pub(crate) fn fill(bytes: usize) -> Vec<Gc<[u8; KIB]>> {
    (0..bytes / KIB).map(|_| Gc::new([0; KIB])).collect()
}

/// What is in spans at most while garbage comes and goes beside 16 MiB of live objects: 32 MiB when a cycle begins.
fn most_in_use() -> usize {
    collect_cleanly();
    let before = memory_stats().heap_inuse;
    let held = fill(16 * MIB);
    let cycles = runtime::cycles();
    let mut most = 0;
    while runtime::cycles() < cycles + 4 {
        drop(black_box(fill(MIB / 4)));
        most = most.max(memory_stats().heap_inuse);
    }
    black_box(held);
    most - before
}

#[kernel_test(unstressed)]
fn garbage_makes_room_before_the_heap_grows() {
    assert!(most_in_use() < 38 * MIB);
}

#[kernel_test(off, unstressed)]
fn without_looking_for_room_in_what_is_unswept_the_heap_grows_by_half() {
    let _off = disable(Mechanism::SweepForRoom);
    assert!(most_in_use() > 42 * MIB);
}

/// Makes garbage until a cycle has begun that nobody asked for, and so with most spans still to be swept.
pub(crate) fn wait_for_a_cycle() {
    let cycles = runtime::cycles();
    while runtime::cycles() == cycles {
        black_box(Canary::hatch());
    }
}

/// A cycle right after another, between which objects have died and others have come.
fn two_cycles_in_a_row() -> Vec<Gc<Canary>> {
    let old: Vec<_> = (0..20_000).map(|_| Canary::hatch()).collect();
    black_box(&old);
    wait_for_a_cycle();
    drop(old);
    let young = (0..10).map(|_| Canary::hatch()).collect();
    collect_cleanly();
    young
}

#[kernel_test(status = 0, cmdline = "GODEBUG=gccheckmark=1")]
fn a_cycle_sweeps_first_what_the_last_one_left() {
    assert!(two_cycles_in_a_row().iter().all(|object| object.is_intact()));
}

#[kernel_test(off, status = 2, cmdline = "GODEBUG=gccheckmark=1", says = "gccheckmark: object 0x")]
fn a_cycle_that_begins_with_spans_unswept_takes_old_marks_for_its_own() {
    let _off = disable(Mechanism::SweepTermination);
    black_box(two_cycles_in_a_row());
}

#[kernel_test(unstressed)]
fn what_is_unswept_is_sound_and_a_cpu_with_nothing_to_do_sweeps_it() {
    drop(fill(3 * MIB));
    wait_for_a_cycle();
    runtime::inspect::check_heap().unwrap_or_else(|broken| panic!("{broken}"));
    let before = memory_stats();
    while memory_stats().heap_inuse > before.heap_inuse - 2 * MIB {
        sleep(1_000_000);
    }
    assert!(memory_stats().frees > before.frees + 1000);
    assert_eq!(memory_stats().num_gc, before.num_gc);
}

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// How many objects had been freed at each of a thread's turns, where that differs.
fn watch(every_ns: u64) -> Vec<usize> {
    let mut seen = Vec::with_capacity(1000);
    while !IS_OVER.load(SeqCst) {
        sleep(every_ns);
        let frees = memory_stats().frees;
        if seen.last() != Some(&frees) && seen.len() < 1000 {
            seen.push(frees);
        }
    }
    seen
}

/// Whether others had a turn while a thread that allocates 32 MiB swept for it: 8192 spans, each with an object.
fn others_run_while_one_sweeps() -> bool {
    runtime::set_preemption(true);
    collect();
    let all = fill(64 * MIB);
    let mut held = Vec::with_capacity(all.len() / 8);
    held.extend(all.iter().copied().step_by(8));
    drop(all);
    set_gc_percent(Some(1));
    wait_for_a_cycle();
    set_gc_percent(None);
    IS_OVER.store(false, SeqCst);
    // Preempted is who has run since the timer's last interrupt: one sleeper wakes, the next one's interrupt gives both their turn.
    let watchers = [50_000, 200_000, 800_000, 3_000_000].map(|every_ns| go(move || watch(every_ns)));
    yield_now();
    let before = memory_stats().frees;
    black_box(Vec::<u8>::with_capacity(32 * MIB));
    let after = memory_stats().frees;
    IS_OVER.store(true, SeqCst);
    assert!(after - before > 50_000, "the allocation swept: {} objects freed", after - before);
    black_box(held);
    // Nearer to the end are those that came when it was over: they free something themselves.
    let midway = before + 1000..after - 1000;
    watchers.into_iter().any(|watcher| watcher.join().is_ok_and(|seen| seen.iter().any(|frees| midway.contains(frees))))
}

#[kernel_test(status = 0)]
fn who_sweeps_for_a_large_object_lets_others_have_their_turns() {
    // On a busy host all of them may come too late.
    assert!((0..50).any(|_| others_run_while_one_sweeps()));
}

#[kernel_test(off, status = 0)]
fn swept_in_one_section_it_lets_nobody_have_a_turn() {
    let _off = disable(Mechanism::SweepingOutside);
    assert!(!(0..3).any(|_| others_run_while_one_sweeps()));
}

/// That the figures are right, whenever the sweep was.
fn objects_come_and_go() {
    collect_cleanly();
    let before = memory_stats();
    let held = fill(2 * MIB);
    hatch_into(|_| ());
    drop(fill(6 * MIB));
    overwrite_dead_frames();
    wait_for_a_cycle();
    collect_cleanly();
    let after = memory_stats();
    let near = |value: usize, expected: usize| value.abs_diff(expected) < 64;
    assert!(near(after.heap_objects - before.heap_objects, 2 * MIB / KIB), "{} objects", after.heap_objects);
    assert!(after.frees - before.frees > 6 * MIB / KIB);
    let grown = after.heap_inuse - before.heap_inuse;
    assert!(grown < 2 * MIB + MIB / 2, "{grown} bytes");
    assert!(after.total_alloc - before.total_alloc >= 8 * MIB);
    black_box(held);
}

#[kernel_test]
fn figures_are_right_when_spans_are_swept_later() {
    objects_come_and_go();
}

#[kernel_test(cmdline = "GODEBUG=gcstoptheworld=2")]
fn figures_are_right_when_spans_are_swept_in_the_stop() {
    objects_come_and_go();
}
