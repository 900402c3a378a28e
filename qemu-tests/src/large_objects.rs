//! A large object is zeroed with safepoints let in: others run meanwhile, and a collection neither frees it nor
//! believes what is still in it.

use crate::canary::{Hidden, hatch_into, overwrite_dead_frames};
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use runtime::addr::{MIB, Range};
use runtime::kernel_test;
use runtime::platform::Registers;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::{self, Hook};
use runtime::upcall::{self, StoppedWorld};

/// Longer than an arena.
const WORDS: usize = 96 * MIB / 8;

/// Where the block is, and what its dirty words lead to: inverted.
static BLOCK: AtomicUsize = AtomicUsize::new(0);
static GARBAGE: AtomicUsize = AtomicUsize::new(0);
/// Odd while the block is allocated, dirty as it is.
static TURN: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// What a thread saw that ran when the block's first word was zero already and its last was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Midway {
    block_kept: bool,
    garbage_kept: bool,
}

fn word(number: usize) -> usize {
    let place = with_exposed_provenance::<usize>(!BLOCK.load(SeqCst)).wrapping_add(number);
    // SAFETY: of a block that is allocated, or was; its pages keep their memory.
    unsafe { place.read_volatile() }
}

fn is_midway() -> bool {
    let turn = TURN.load(SeqCst);
    !turn.is_multiple_of(2) && word(0) == 0 && word(WORDS - 1) != 0 && TURN.load(SeqCst) == turn
}

/// Waits in a loop for the sight, and collects there and then.
fn watch() -> Option<Midway> {
    while !is_midway() {
        if IS_OVER.load(SeqCst) {
            return None;
        }
    }
    collect();
    IS_OVER.store(true, SeqCst);
    let is_allocated = |place: &AtomicUsize| Hidden::from_inverted(place.load(SeqCst)).is_allocated();
    Some(Midway { block_kept: is_allocated(&BLOCK), garbage_kept: is_allocated(&GARBAGE) })
}

/// Leaves a free block whose every word is an object's address; nothing else knows the object.
#[inline(never)]
fn leave_dirty_block() {
    let garbage = hatch_into(|_| ());
    GARBAGE.store(garbage.inverted(), SeqCst);
    let mut block: Vec<usize> = Vec::with_capacity(WORDS);
    BLOCK.store(!block.as_ptr().expose_provenance(), SeqCst);
    for place in block.spare_capacity_mut() {
        // Volatile, lest a vector register keep the address.
        // SAFETY: a place of the block's.
        unsafe { place.as_mut_ptr().write_volatile(!garbage.inverted()) };
    }
}

/// Allocates a zeroed block beside [`watch`] until it has seen something, so many times at most.
fn allocate_watched(most: usize) -> Option<Midway> {
    runtime::set_preemption(true);
    runtime::set_gc_percent(None);
    let watcher = go(watch);
    for _ in 0..most {
        leave_dirty_block();
        overwrite_dead_frames();
        TURN.fetch_add(1, SeqCst);
        let block = black_box(vec![0usize; WORDS]);
        TURN.fetch_add(1, SeqCst);
        assert_eq!(block.as_ptr().addr(), !BLOCK.load(SeqCst), "the lowest run of pages that fits");
        assert!(block.iter().all(|word| *word == 0));
        if IS_OVER.swap(false, SeqCst) {
            break;
        }
    }
    IS_OVER.store(true, SeqCst);
    watcher.join().expect("it only looks")
}

#[kernel_test(status = 0)]
fn a_thread_has_its_turn_while_a_large_object_is_zeroed_and_a_collection_keeps_it_and_no_garbage() {
    assert_eq!(allocate_watched(1000), Some(Midway { block_kept: true, garbage_kept: false }));
}

#[kernel_test(off, status = 0)]
fn zeroed_in_a_section_it_lets_nobody_have_a_turn() {
    let _off = disable(Mechanism::ZeroingOutside);
    assert_eq!(allocate_watched(10), None);
}

/// Where the heap was last checked, and how often it was.
static CHECKED: AtomicUsize = AtomicUsize::new(0);
static CHECKS: AtomicUsize = AtomicUsize::new(0);

/// Checks the heap at a stop, unless it is at the same instruction as the last one.
fn check(registers: &Registers, extended: Range) {
    if CHECKED.swap(registers.rip, SeqCst) == registers.rip {
        return;
    }
    let check = |world: StoppedWorld<'_>| {
        CHECKS.fetch_add(1, SeqCst);
        if let Some(broken) = world.broken() {
            panic!("{broken}");
        }
    };
    // SAFETY: a hook runs in the trap's handler.
    unsafe { upcall::at_stop(registers, extended, check) };
}

#[kernel_test(unstressed)]
fn the_heap_is_sound_at_every_instruction_while_a_large_object_is_made() {
    let make = || black_box(vec![0usize; 5000]);
    drop(make()); // its pages are dirty now
    let block = testing::each_instruction(&(check as Hook), make);
    assert!(block.iter().all(|word| *word == 0) && CHECKS.load(SeqCst) > 50);
}

#[kernel_test(unstressed)]
fn the_heap_is_sound_at_every_instruction_while_a_long_object_gets_its_memory() {
    free_os_memory();
    let with_memory = || memory_stats().heap_sys - memory_stats().heap_released;
    let before = with_memory();
    let block = testing::each_instruction(&(check as Hook), || black_box(Vec::<u8>::with_capacity(9 * MIB)));
    assert!(with_memory() >= before + 8 * MIB);
    assert!(CHECKS.load(SeqCst) > 50, "{CHECKS:?}");
    drop(block);
}
