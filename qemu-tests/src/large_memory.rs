//! A large object gets its memory with safepoints let in: others run meanwhile, and find a sound heap, whatever they do. On a machine: a
//! process has 2 MiB in a microsecond, and nobody comes in between.

use crate::clock::MS;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use runtime::addr::MIB;
use runtime::inspect::{check_heap, free_memory};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Longer than an arena.
const WORDS: usize = 96 * MIB / 8;

/// Odd while a block is allocated.
static TURN: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// How much memory was free before the block was allocated.
static FREE_BEFORE: AtomicUsize = AtomicUsize::new(0);

/// Whether a part of the block has its memory and the rest has not.
fn is_there_in_part() -> bool {
    let turn = TURN.load(SeqCst);
    let taken = FREE_BEFORE.load(SeqCst).saturating_sub(free_memory().0);
    let is_part = (16 * MIB..8 * WORDS - 16 * MIB).contains(&taken);
    !turn.is_multiple_of(2) && is_part && TURN.load(SeqCst) == turn
}

/// Allocates an ambiguous block whose pages have no memory, beside a thread that has `then` called at the sight of a part with and a part
/// without, so many times at most. What came of both.
fn commit_watched<T: Send + 'static>(most: usize, then: fn() -> T) -> Option<(T, bool)> {
    runtime::set_preemption(true);
    IS_OVER.store(false, SeqCst);
    let watcher = go(move || {
        while !is_there_in_part() {
            if IS_OVER.load(SeqCst) {
                return None;
            }
        }
        // It is the last turn.
        IS_OVER.store(true, SeqCst);
        Some(then())
    });
    let mut has_block = false;
    for round in 0..most {
        free_os_memory();
        // A slice may begin where the last block was dropped, and be long enough for all of the next.
        let start_ns = now() + round as u64 % 10 * MS;
        while now() < start_ns {}
        FREE_BEFORE.store(free_memory().0, SeqCst);
        TURN.fetch_add(1, SeqCst);
        let mut block = Vec::<usize>::new();
        has_block = block.try_reserve_exact(WORDS - 1).is_ok();
        TURN.fetch_add(1, SeqCst);
        block.resize(block.capacity(), 7);
        assert!(black_box(block).iter().all(|word| *word == 7));
        if IS_OVER.load(SeqCst) {
            break;
        }
    }
    IS_OVER.store(true, SeqCst);
    watcher.join().expect("it ends").map(|seen| (seen, has_block))
}

/// Whether a collection kept all of the block, and the heap is sound.
fn collect_midway() -> (bool, bool) {
    collect();
    (memory_stats().heap_inuse >= 8 * WORDS, check_heap().is_ok())
}

#[kernel_test]
fn a_thread_has_its_turn_while_a_large_object_gets_its_memory_and_a_collection_keeps_it() {
    assert_eq!(commit_watched(1000, collect_midway), Some(((true, true), true)));
}

#[kernel_test(off)]
fn given_its_memory_in_a_section_it_lets_nobody_have_a_turn() {
    let _off = disable(Mechanism::CommittingOutside);
    assert_eq!(commit_watched(10, collect_midway), None);
}

/// Takes what is left until the other has an answer. How much is free when all that both had is back.
fn take_the_rest() -> usize {
    let mut rest = Vec::with_capacity(256);
    let mut piece = Vec::<u8>::new();
    while rest.len() < 256 && piece.try_reserve_exact(MIB - 1).is_ok() {
        rest.push(core::mem::take(&mut piece));
    }
    while !TURN.load(SeqCst).is_multiple_of(2) {
        yield_now();
    }
    drop(rest);
    free_os_memory();
    free_memory().0
}

#[kernel_test(unstressed)]
fn a_large_object_that_others_leave_no_memory_for_is_none_and_all_that_it_had_comes_back() {
    // Else who finds no memory collects, and has the other's.
    let percent = set_gc_percent(None);
    // The other may be quicker, and have it all.
    let refused = (0..100).find_map(|_| commit_watched(1000, take_the_rest).filter(|(_, has_block)| !has_block));
    set_gc_percent(percent);
    let (free, _) = refused.expect("they meet");
    let before = FREE_BEFORE.load(SeqCst);
    assert!(free + MIB > before, "{free} bytes of {before}");
}
