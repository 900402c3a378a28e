//! Who runs next. Go: `schedule`, `execute`, `gopark`, `goready` in proc.go.
//!
//! Unsafe here: the switches.
#![allow(unsafe_code)]

use super::{State, Thread, WaitReason, switch};
use crate::cpu::SafepointsHeld;
use crate::platform::platform;
use crate::tick::tick;
use crate::{fatal, report, throw};
use core::cell::Cell;

/// On the system stack: nobody runs. Waits for a thread to become runnable and runs it.
pub(super) fn schedule(held: &SafepointsHeld) -> ! {
    loop {
        if held.cpu().take_note() {
            tick(held);
        }
        if let Some(next) = held.cpu().run_queue.pop() {
            run(held, next);
        }
        if held.cpu().sleepers.is_empty() {
            deadlock();
        }
        let were_on = platform().set_interrupts(false);
        if !held.cpu().has_note() {
            platform().halt();
        }
        platform().set_interrupts(were_on);
    }
}

extern "sysv64" fn schedule_from_park() -> ! {
    // SAFETY: `park_in` is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    held.cpu().set_current(None);
    schedule(&held)
}

/// Runs `next` from the system stack, whose contents are needed no more.
pub(super) fn run(held: &SafepointsHeld, next: &'static Thread) -> ! {
    let nobody = core::cell::Cell::new(0);
    go_on_with(held, &nobody, next);
    throw!("expected nobody to return to the scheduler's stack")
}

pub(super) fn yield_in(held: &SafepointsHeld) {
    if let Some(next) = held.cpu().run_queue.pop() {
        let thread = current_in(held);
        thread.state.set(State::Runnable);
        held.cpu().run_queue.push(thread);
        go_on_with(held, thread.saved_sp(), next);
    }
}

pub(super) fn park_in(held: &SafepointsHeld, thread: &'static Thread, reason: WaitReason) {
    thread.state.set(State::Parked(reason));
    thread.waiting_since_ns.set(platform().now());
    match held.cpu().run_queue.pop() {
        Some(next) => go_on_with(held, thread.saved_sp(), next),
        // SAFETY: a thread runs, so the system stack is free.
        None => unsafe {
            switch::switch_to_stack(thread.saved_sp(), held.cpu().system_stack_top(), schedule_from_park)
        },
    }
}

/// Parks the current thread; `lock` protects what will make it ready. With one CPU nobody can look between the two steps.
pub(super) fn park_unlocking<T>(held: &SafepointsHeld, lock: spin::MutexGuard<'_, T>, reason: WaitReason) {
    drop(lock);
    park_in(held, current_in(held), reason);
}

/// Makes a parked thread runnable.
pub(super) fn ready(held: &SafepointsHeld, thread: &'static Thread) {
    thread.state.set(State::Runnable);
    held.cpu().run_queue.push(thread);
}

/// Switches to `next`; returns when somebody switches to `saved_sp`.
fn go_on_with(held: &SafepointsHeld, saved_sp: &Cell<usize>, next: &'static Thread) {
    next.state.set(State::Running);
    held.cpu().set_current(Some(next));
    held.cpu().count_switch();
    // SAFETY: in a section; `next` was saved by a switch or is new.
    unsafe { switch::switch(saved_sp, next.saved_sp().get()) };
}

pub(crate) fn current_in(held: &SafepointsHeld) -> &'static Thread {
    match held.cpu().current() {
        Some(thread) => thread,
        None => throw!("expected a thread on this CPU, found none: only threads block, spawn and allocate"),
    }
}

/// Go's words for it, and Go's status.
fn deadlock() -> ! {
    report!("fatal error: all goroutines are asleep - deadlock!");
    fatal::write_all_threads(None);
    platform().exit(2)
}
