//! The timer: what a tick does, and how it takes the processor from a thread. Go: `sysmon`, `retake`, preempt.go.
//!
//! Unsafe here: the interrupted thread's registers.
#![allow(unsafe_code)]

use super::dispatch::{current_in, enter_thread, ready, yield_in};
use super::{State, Thread, switch};
use crate::cpu::{self, SafepointsHeld};
use crate::gc;
use crate::platform::{Registers, platform};
use crate::switch_off::{self, Mechanism};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often the timer ticks while a thread runs; also the slice of preemption. Go: `forcePreemptNS`.
const TICK_NS: u64 = 10_000_000;

#[unsafe(link_section = ".data.runtime")]
static PREEMPTION: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".data.runtime")]
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Whether the timer takes the processor from a thread that keeps it (Go's behaviour) or threads only give it (the default).
/// `GODEBUG=asyncpreemptoff=0` switches it on from the start.
pub fn set_preemption(on: bool) {
    PREEMPTION.store(on, Ordering::Relaxed);
}

/// Timer ticks that were acted on, for tests of the safepoint.
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// One timer interrupt at the next tick, or earlier if a sleeper is due.
pub(super) fn arm_timer(held: &SafepointsHeld) {
    let tick = platform().now() + TICK_NS;
    platform().set_timer(held.cpu().sleepers.first_wake_ns().map_or(tick, |wake| wake.min(tick)));
}

/// What a tick does wherever it finds the CPU. Not on a thread's stack.
pub(super) fn tick(held: &SafepointsHeld) {
    TICKS.fetch_add(1, Ordering::Relaxed);
    let now = platform().now();
    while let Some(thread) = held.cpu().sleepers.take_due(now) {
        ready(held, thread);
    }
    gc::collect_if_due(held, now);
    arm_timer(held);
}

fn is_to_be_preempted(held: &SafepointsHeld) -> bool {
    let stayed = held.cpu().stayed_since_tick();
    PREEMPTION.load(Ordering::Relaxed) && stayed && !held.cpu().run_queue.is_empty()
}

/// The tick that came in a section, at the section's end.
pub(crate) fn tick_in_thread(held: &SafepointsHeld) {
    held.on_system_stack(|| tick(held));
    if is_to_be_preempted(held) {
        yield_in(held);
    }
}

/// The timer's interrupt. On its own stack, interrupts off.
pub(crate) fn timer(registers: &mut Registers) {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    if switch_off::is_off(Mechanism::TimerStop) {
        return arm_timer(&held);
    }
    if cpu.in_section() && !switch_off::is_off(Mechanism::Sections) {
        cpu.note();
        // The scheduler may be on its way into `hlt`, with nobody to end its section: the timer asks again.
        if cpu.current().is_none() {
            arm_timer(&held);
        }
        return;
    }
    let thread = current_in(&held);
    cpu.take_note();
    stopped(&held, registers, || tick(&held));
    let resumes_in_section = is_to_be_preempted(&held) && preempt(&held, thread, registers);
    cpu.set_in_section(resumes_in_section);
}

/// Runs `f` in a section of the handler's, with the interrupted thread's registers where the collector looks.
fn stopped<R>(held: &SafepointsHeld, registers: &Registers, f: impl FnOnce() -> R) -> R {
    let cpu = held.cpu();
    cpu.set_in_section(true);
    current_in(held).saved_sp().set(registers.rsp);
    cpu.interrupted.set(registers);
    let result = f();
    cpu.interrupted.set(core::ptr::null());
    result
}

/// From any handler: runs `f` in the world as this interrupt has stopped it. `None` inside a section, where there is no safepoint.
#[cfg(feature = "switch-off")]
pub(crate) fn at_stop<R>(registers: &Registers, f: impl FnOnce(&SafepointsHeld) -> R) -> Option<R> {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    if held.cpu().in_section() {
        return None;
    }
    let result = stopped(&held, registers, || f(&held));
    held.cpu().set_in_section(false);
    Some(result)
}

/// Puts the interrupted thread at the queue's end and makes the interrupt return into the first. True if that one goes on inside a section.
fn preempt(held: &SafepointsHeld, thread: &'static Thread, registers: &mut Registers) -> bool {
    let Some(next) = held.cpu().run_queue.pop() else { return false };
    // SAFETY: the thread's own record; it is not running any more.
    unsafe { *thread.registers.get() = *registers };
    thread.is_interrupted.set(true);
    thread.state.set(State::Runnable);
    held.cpu().run_queue.push(thread);
    enter_thread(held.cpu(), next);
    if next.is_interrupted.take() {
        // SAFETY: saved when `next` was interrupted.
        *registers = unsafe { *next.registers.get() };
        return false;
    }
    registers.rip = switch::landing as *const () as usize;
    registers.rflags = switch::RFLAGS;
    registers.rsp = next.saved_sp().get();
    true
}
