//! A million spans: 8 GiB of addresses, of which nobody touches a byte but the heap's own records.

use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::{KIB, MIB};
use runtime::inspect::check_heap;
use runtime::kernel_test;
use runtime::prelude::*;

const SPANS: usize = 1_000_000;
/// One to a span, and never scanned.
const BYTES: usize = 8 * KIB;

fn is_sound() {
    if let Err(broken) = check_heap() {
        panic!("{broken}");
    }
}

fn spans() -> usize {
    runtime::heap_table().classes.iter().map(|class| class.spans).sum()
}

#[kernel_test(status = 0, mem = "12G")]
fn a_million_spans_are_held_found_and_given_back() {
    let made = go(|| {
        let blocks: Vec<Vec<u8>> = (0..SPANS).map(|_| Vec::with_capacity(BYTES)).collect();
        collect();
        let stats = memory_stats();
        assert!(stats.heap_objects >= SPANS && stats.heap_alloc >= SPANS * BYTES && spans() >= SPANS);
        assert!(blocks.iter().all(|block| runtime::inspect::is_allocated(block.as_ptr().addr() + BYTES - 1)));
        is_sound();
        // Every other: no two free pages are neighbours.
        let kept: Vec<Vec<u8>> = blocks.into_iter().step_by(2).collect();
        collect();
        is_sound();
        kept.len()
    });
    assert_eq!(made.join(), Ok(SPANS / 2));
    collect();
    is_sound();
    let stats = memory_stats();
    assert!(stats.heap_alloc < 64 * MIB && spans() < SPANS / 100, "{} bytes live", stats.heap_alloc);
    // The pages are in one piece again.
    let large = black_box(Vec::<u8>::with_capacity(SPANS * BYTES));
    assert_eq!(memory_stats().heap_sys, stats.heap_sys);
    drop(large);
    free_os_memory();
}
