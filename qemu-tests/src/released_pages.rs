//! The memory of free pages goes back to the machine, and comes again when its pages are needed.

use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::MIB;
use runtime::inspect::free_memory;
use runtime::kernel_test;
use runtime::prelude::*;

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

#[kernel_test]
fn free_pages_between_objects_are_enough_for_a_long_object_elsewhere() {
    let count = free_memory().0 * 6 / 10 / MIB;
    let mut pieces: Vec<Vec<u8>> = (0..count).map(|_| black_box(Vec::with_capacity(MIB - 1))).collect();
    let mut number = 0;
    pieces.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    let long = free_memory().0 + count / 4 * MIB;
    assert_eq!(black_box(&mut Vec::<u8>::new()).try_reserve_exact(long), Ok(()));
    drop(pieces);
    free_os_memory();
}
