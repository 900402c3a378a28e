//! A thread in `loop {}` calls nothing, so it could never be asked to stop. The timer's interrupt stops it between any two
//! instructions, and a collection runs while it stands there.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

static IS_SPINNING: AtomicBool = AtomicBool::new(false);

#[derive(Trace)]
struct Link {
    _number: u64,
    _next: Option<Gc<Link>>,
}

#[program("spinner", "stops a thread that runs `loop {}`, and collects beside it")]
#[expect(clippy::empty_loop, reason = "the loop that calls nothing is what this is about")]
fn spinner(arguments: &Arguments) -> u8 {
    let Some([]) = arguments.numbers([]) else { return MISUSED };
    runtime::set_preemption(true);
    go(|| -> () {
        IS_SPINNING.store(true, Ordering::Relaxed);
        loop {}
    });

    let start = now();
    while !IS_SPINNING.load(Ordering::Relaxed) {
        yield_now();
    }
    println!(
        "a thread runs `loop {{}}`; the timer took the processor from it, {} us after main had given it up",
        (now() - start) / 1000
    );

    let before = memory_stats();
    drop_lists(1000, 100);
    let with_garbage = memory_stats();
    collect();
    let after = memory_stats();
    println!(
        "collection {} ran while it stood in its loop: heap of {} KiB, {} KiB with dropped lists, {} KiB after",
        after.num_gc,
        before.heap_alloc >> 10,
        with_garbage.heap_alloc >> 10,
        after.heap_alloc >> 10
    );
    let garbage = with_garbage.heap_alloc.saturating_sub(before.heap_alloc);
    let left = after.heap_alloc.saturating_sub(before.heap_alloc);

    // It goes on where it was, and is stopped again.
    let start = now();
    yield_now();
    let us = (now() - start) / 1000;
    println!("it went on for {us} us and was stopped again");

    if garbage == 0 || left > garbage / 10 || us == 0 {
        println!("expected the lists to be gone and the loop to have gone on");
        return 1;
    }
    0
}

/// Many short lists rather than a long one: a stale word somewhere may keep one of them.
#[inline(never)]
fn drop_lists(lists: usize, length: u64) {
    let heads: Vec<Gc<Link>> = (0..lists)
        .map(|_| {
            let last = Gc::new(Link { _number: 0, _next: None });
            (1..length).fold(last, |next, number| Gc::new(Link { _number: number, _next: Some(next) }))
        })
        .collect();
    core::hint::black_box(&heads);
}
