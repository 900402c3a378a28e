//! A panic unwinds its own thread and no other; where none can be unwound, everything stops.

mod collecting;
mod limits;
mod nested;

pub(crate) use limits::AllFrames;

use crate::canary::collect_cleanly;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::addr::KIB;
use runtime::inspect::free_memory;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Notes its number when it is dropped: `order` becomes the decimal digits in the order of the drops.
struct Noted(&'static AtomicUsize, usize);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.store(self.0.load(Ordering::Relaxed) * 10 + self.1, Ordering::Relaxed);
    }
}

/// Calls `f` when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn message<T: fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Panicked(panic)) => panic.message().into(),
        other => format!("no panic but {other:?}"),
    }
}

fn add_one(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn three_destructors(order: &'static AtomicUsize) -> u32 {
    let _first = Noted(order, 1);
    let _second = Noted(order, 2);
    let _third = Box::new(Noted(order, 3));
    if black_box(true) {
        panic!("the sky is {}", black_box("falling"));
    }
    7
}

#[kernel_test]
fn a_panic_runs_destructors_in_order_and_is_an_error_at_join() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let ended = go(|| three_destructors(&ORDER)).join();
    assert_eq!(ORDER.load(Ordering::Relaxed), 321);
    let Err(Failure::Panicked(panic)) = ended else { panic!("joined {ended:?}") };
    assert_eq!(panic.message(), "the sky is falling");
    assert!(panic.place().contains("panics/mod.rs:"), "{}", panic.place());
}

#[kernel_test(off)]
fn without_unwinding_no_destructor_runs() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let off = disable(Mechanism::Unwinding);
    let ended = go(|| three_destructors(&ORDER)).join();
    drop(off);
    assert_eq!(ORDER.load(Ordering::Relaxed), 0);
    assert_eq!(message(ended), "the sky is falling");
}

#[kernel_test]
fn the_message_waits_for_who_joins_through_collections() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let threads: Vec<_> = (0..50)
        .map(|number: u32| {
            go(move || -> u32 {
                let _last = OnDrop(|| add_one(&ENDED));
                panic!("message number {number}")
            })
        })
        .collect();
    while ENDED.load(Ordering::Relaxed) < 50 {
        yield_now();
    }
    (0..3).for_each(|_| yield_now());
    collect_cleanly();
    let others: Vec<String> = (0..1000).map(|number| format!("something else: {number}")).collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(message(thread.join()), format!("message number {number}"));
    }
    drop(black_box(others));
}

#[kernel_test]
fn a_catch_in_the_function_that_panics_has_its_panic() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let caught = catch_unwind(|| {
        let _noted = Noted(&ORDER, 4);
        if black_box(true) {
            panic!("here");
        }
    });
    assert_eq!((message(caught).as_str(), ORDER.load(Ordering::Relaxed)), ("here", 4));
    assert_eq!(catch_unwind(|| 5), Ok(5));
}

#[kernel_test]
fn the_innermost_catch_has_the_panic_and_the_outer_one_the_next() {
    let outer = catch_unwind(|| {
        let inner = catch_unwind(|| panic!("inner"));
        assert_eq!(message::<()>(inner), "inner");
        panic!("outer");
    });
    assert_eq!(message::<()>(outer), "outer");
}

#[inline(never)]
fn frames_of_destructors(depth: u32, drops: &AtomicUsize) -> u32 {
    let _counted = OnDrop(|| add_one(drops));
    if black_box(depth) == 0 {
        panic!("at the bottom");
    }
    frames_of_destructors(depth - 1, drops) + 1
}

#[kernel_test]
fn a_panic_crosses_20_frames_and_their_destructors() {
    let drops = AtomicUsize::new(0);
    assert_eq!(message(catch_unwind(|| frames_of_destructors(20, &drops))), "at the bottom");
    assert_eq!(drops.load(Ordering::Relaxed), 21);
}

#[kernel_test]
fn what_the_language_checks_panics_like_anything_else() {
    let (numbers, index) = ([1, 2, 3], black_box(3));
    assert!(message(catch_unwind(|| numbers[index])).starts_with("index out of bounds: the len is 3"));
    assert!(message(catch_unwind(|| black_box(1) / black_box(0))).contains("divide by zero"));
    assert!(message(catch_unwind(|| black_box(None::<u8>).unwrap())).contains("`None`"));
    assert!(message(catch_unwind(|| black_box(u64::MAX) + black_box(1))).contains("overflow"));
}

#[kernel_test]
fn a_long_message_is_cut_with_an_ellipsis() {
    let words = message(catch_unwind(|| -> () { panic!("{}", "äöü ".repeat(1000)) }));
    assert!(words.ends_with('…') && words.len() > 200 && words.len() < 1000);
}

#[kernel_test]
fn a_thousand_panics_leave_nothing_behind() {
    let panic_often = |count| {
        for number in 0..count {
            let ended = go(move || -> usize { panic!("number {number}") }).join();
            assert_eq!(message(ended), format!("number {number}"));
            assert_eq!(message(catch_unwind(|| -> () { panic!("{number}") })), format!("{number}"));
        }
        collect_cleanly();
        (memory_stats().heap_alloc, free_memory().0)
    };
    let (heap, free) = panic_often(50);
    let (heap_after, free_after) = panic_often(500);
    assert!(heap_after < heap + 64 * KIB, "{heap} bytes became {heap_after}");
    assert!(free_after + 64 * KIB >= free, "{free} bytes of free memory became {free_after}");
}
