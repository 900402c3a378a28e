//! Who runs next. Go: `schedule`, `execute`, `gopark`, `goready` in proc.go.
//!
//! Unsafe here: the switches.
#![allow(unsafe_code)]

use super::{State, Thread, WaitReason, switch};
use crate::cpu::SafepointsHeld;
use crate::platform::platform;
use crate::tick::tick;
use crate::{fatal, gc, report, throw};

/// On the system stack: nobody runs. Waits for a thread to become runnable and runs it.
pub(super) fn schedule(held: &SafepointsHeld) -> ! {
    loop {
        if held.cpu().take_note() {
            tick(held);
        }
        if let Some(next) = held.cpu().run_queue.pop() {
            run(held, next);
        }
        if gc::sweep_when_idle(held) {
            continue;
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

/// [`schedule`] for a thread that has left the processor.
pub(super) extern "sysv64" fn schedule_next() -> ! {
    // SAFETY: whoever comes here is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    held.cpu().set_current(None);
    schedule(&held)
}

/// Runs `next` from a stack whose contents are needed no more.
#[inline(always)]
pub(super) fn run(held: &SafepointsHeld, next: &'static Thread) -> ! {
    set_running(held, next);
    // SAFETY: in a section; `next` was saved by a switch or is new.
    unsafe { switch::resume(next.saved_sp().get()) }
}

pub(super) fn yield_in(held: &SafepointsHeld) {
    if let Some(next) = held.cpu().run_queue.pop() {
        let thread = current_in(held);
        thread.state.set(State::Runnable);
        held.cpu().run_queue.push(thread);
        go_on_with(held, thread, next);
    }
}

pub(super) fn park_in(held: &SafepointsHeld, thread: &'static Thread, reason: WaitReason) {
    thread.state.set(State::Parked(reason));
    thread.waiting_since_ns.set(0);
    match held.cpu().run_queue.pop() {
        Some(next) => go_on_with(held, thread, next),
        // SAFETY: a thread runs, so the system stack is free.
        None => unsafe { switch::switch_to_stack(thread.saved_sp(), held.cpu().system_stack_top(), schedule_next) },
    }
}

/// Makes a parked thread runnable.
pub(super) fn ready(held: &SafepointsHeld, thread: &'static Thread) {
    thread.state.set(State::Runnable);
    held.cpu().run_queue.push(thread);
}

/// Switches from `thread` to `next`; returns when somebody switches back.
fn go_on_with(held: &SafepointsHeld, thread: &'static Thread, next: &'static Thread) {
    set_running(held, next);
    // SAFETY: as in `run`.
    unsafe { switch::switch(thread.saved_sp(), next.saved_sp().get()) };
}

#[inline(always)]
fn set_running(held: &SafepointsHeld, thread: &'static Thread) {
    thread.state.set(State::Running);
    held.cpu().set_current(Some(thread));
    held.cpu().count_switch();
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
