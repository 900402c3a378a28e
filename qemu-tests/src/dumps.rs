//! What a fatal error shows: the threads, in the form of Go's goroutine dumps, with files and lines put in by the host. That every dump has
//! that form is checked for all tests that end their kernel.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;

static IS_LOOPING: AtomicBool = AtomicBool::new(false);

/// One thread in each state: 2 parked, 3 asleep, 4 preempted, 5 new.
#[inline(never)]
fn one_thread_in_each_state() {
    drop(go(park));
    drop(go(|| sleep(1_000_000_000_000)));
    drop(go(|| -> () { lose_the_processor() }));
    runtime::set_preemption(true);
    while !IS_LOOPING.load(Ordering::Relaxed) {
        yield_now();
    }
    drop(go(|| ()));
}

#[inline(never)]
#[expect(clippy::empty_loop, reason = "it calls nothing")]
fn lose_the_processor() -> ! {
    IS_LOOPING.store(true, Ordering::Relaxed);
    loop {}
}

#[kernel_test(
    status = 2,
    says = "goroutine 1 [running]:|goroutine 2 [park]:|goroutine 3 [sleep]:|goroutine 4 [preempted]:|dumps::lose_the_processor(...)|!sched::preempt|goroutine 5 [runnable]:|\
        created by qemu_tests::dumps::one_thread_in_each_state in goroutine 1|dumps::broken(...)|qemu-tests/src/dumps.rs:"
)]
fn a_fatal_error_shows_every_thread() {
    one_thread_in_each_state();
    broken();
}

#[inline(never)]
fn broken() {
    runtime::throw!("expected nothing, found a test");
}

#[kernel_test(status = 2, says = "goroutine 1 [running]:|goroutine 4 [preempted]:|dumps::stray_write(...)")]
fn an_exception_shows_every_thread() {
    one_thread_in_each_state();
    stray_write();
}

#[inline(never)]
pub(crate) fn stray_write() {
    // SAFETY: nothing is mapped there.
    unsafe { core::arch::asm!("mov byte ptr [{}], 1", in(reg) 0x1234usize, options(nostack)) };
}

#[kernel_test(
    status = 2,
    says = "all goroutines are asleep - deadlock!|goroutine 1 [park]:|goroutine 2 [park]:|!running"
)]
fn a_deadlock_shows_who_waits() {
    drop(go(park));
    park();
}

#[kernel_test(status = 2, cmdline = "GOTRACEBACK=none", says = "expected nothing, found a test|!goroutine|!(...)")]
fn no_traceback_shows_nobody() {
    broken();
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    if black_box(true) { black_box(recurse(black_box(depth) + 1)) + 1 } else { depth }
}

#[kernel_test(status = 0, says = "goroutine 2 stack exceeds|goroutine 2 [running]:|frames elided...|!goroutine 1 [")]
fn an_overflow_shows_its_thread_from_both_ends() {
    assert_eq!(go(|| recurse(0)).join(), Err(Failure::StackOverflow));
}
