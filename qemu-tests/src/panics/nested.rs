//! Panics within panics, in messages, and where nothing can be unwound.

use super::{Noted, OnDrop, message};
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;

#[kernel_test]
fn a_panic_in_a_destructor_while_unwinding_ends_that_thread_only() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let other = go(|| {
        yield_now();
        8
    });
    let ended = go(|| -> () {
        let _never = Noted(&ORDER, 1);
        let _second = OnDrop(|| panic!("second"));
        let _first = Noted(&ORDER, 2);
        panic!("first");
    });
    assert_eq!(message(ended.join()), "first\n\tpanic: second");
    assert_eq!(ORDER.load(Ordering::Relaxed), 2);
    assert_eq!(other.join(), Ok(8));
}

#[kernel_test]
fn a_destructor_may_panic_and_catch_it_itself() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let ended = go(|| -> () {
        let _last = Noted(&ORDER, 1);
        let _catches = OnDrop(|| {
            let _noted = Noted(&ORDER, 2);
            let inner = catch_unwind(|| -> () {
                let _noted = Noted(&ORDER, 3);
                panic!("inner")
            });
            assert_eq!(message(inner), "inner");
        });
        panic!("outer");
    });
    assert_eq!(message(ended.join()), "outer");
    assert_eq!(ORDER.load(Ordering::Relaxed), 321);
}

#[kernel_test]
fn a_panic_through_a_function_that_cannot_unwind_ends_its_thread_only() {
    #[inline(never)]
    extern "C" fn no_way_through(index: usize) -> u8 {
        [1, 2][index]
    }
    let words = message(go(|| no_way_through(black_box(9))).join());
    assert!(words.contains("index out of bounds") && words.contains("cannot unwind"), "{words}");
    assert_eq!(go(|| 3).join(), Ok(3));
}

#[kernel_test]
fn a_panic_in_the_destructor_of_a_result_that_nobody_joins_unwinds_and_ends_its_thread_only() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    drop(go(|| {
        OnDrop(|| {
            let _noted = Noted(&ORDER, 5);
            panic!("nobody wanted it")
        })
    }));
    assert_eq!(go(|| 3).join(), Ok(3));
    assert_eq!(ORDER.load(Ordering::Relaxed), 5);
    runtime::inspect::check_heap().unwrap_or_else(|fault| panic!("{fault}"));
}

struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words for it")
    }
}

#[kernel_test]
fn a_message_that_panics_ends_its_thread_only() {
    assert!(message(go(|| -> () { panic!("{Unprintable}") }).join()).contains("message of a panic panicked"));
    assert_eq!(go(|| 3).join(), Ok(3));
}

#[kernel_test(status = 2, says = "message of a panic panicked")]
fn a_message_that_panics_on_the_main_thread_ends_the_program() {
    panic!("{Unprintable}");
}

#[kernel_test(status = 2, says = "no words for it")]
fn a_panic_while_a_fatal_error_is_reported_ends_the_program() {
    runtime::throw!("{Unprintable}");
}

fn panic_in_section(on_system_stack: bool) {
    // SAFETY: it ends the machine.
    unsafe { runtime::inspect::in_section(on_system_stack, || panic!("inside")) };
}

#[kernel_test(status = 2, says = "inside")]
fn a_panic_in_a_section_stops_everything() {
    let _ = catch_unwind(|| panic_in_section(false));
}

#[kernel_test(status = 2, says = "inside")]
fn a_panic_on_the_system_stack_stops_everything() {
    let _ = catch_unwind(|| panic_in_section(true));
}

#[kernel_test(status = 2, says = "no words for it")]
fn a_panic_in_a_section_whose_message_panics_comes_to_an_end() {
    // SAFETY: it ends the machine.
    unsafe { runtime::inspect::in_section(false, || panic!("{Unprintable}")) };
}
