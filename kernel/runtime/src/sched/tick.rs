//! The timer: what a tick does. Go: `sysmon`, `retake`.
//!
//! Unsafe here: the interrupted thread's registers.
#![allow(unsafe_code)]

use super::dispatch::{current_in, ready, yield_in};
use super::preempt;
use crate::addr::Range;
use crate::cpu::{self, Interrupted, SafepointsHeld};
use crate::gc;
use crate::platform::{RED_ZONE, Registers, platform};
use crate::switch_off::{self, Mechanism};
use core::sync::atomic::{AtomicU64, Ordering};

/// How often the timer ticks while a thread runs; also the slice of preemption. Go: `forcePreemptNS`.
const TICK_NS: u64 = 10_000_000;

#[unsafe(link_section = ".data.runtime")]
static TICKS: AtomicU64 = AtomicU64::new(0);

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

/// The tick that came in a section, at the section's end.
pub(crate) fn tick_in_thread(held: &SafepointsHeld) {
    held.on_system_stack(|| tick(held));
    if preempt::is_due(held) {
        yield_in(held);
    }
}

/// The timer's interrupt. On its own stack, interrupts off.
pub(crate) fn timer(registers: &mut Registers, extended: Range) {
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
    cpu.take_note();
    stopped(&held, registers, extended, || tick(&held));
    if preempt::is_due(&held) {
        preempt::inject(current_in(&held), registers);
    }
    cpu.set_in_section(false);
}

/// Runs `f` in a section of the handler's, with all that the interrupted thread has where the collector looks.
fn stopped<R>(held: &SafepointsHeld, registers: &Registers, extended: Range, f: impl FnOnce() -> R) -> R {
    let cpu = held.cpu();
    cpu.set_in_section(true);
    current_in(held).saved_sp().set(registers.rsp - RED_ZONE.0);
    cpu.interrupted.set(Some(Interrupted { registers, extended }));
    let result = f();
    cpu.interrupted.set(None);
    result
}

/// From any handler: runs `f` in the world as this interrupt has stopped it. `None` inside a section, where there is no safepoint.
#[cfg(feature = "switch-off")]
pub(crate) fn at_stop<R>(registers: &Registers, extended: Range, f: impl FnOnce(&SafepointsHeld) -> R) -> Option<R> {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    if held.cpu().in_section() {
        return None;
    }
    let result = stopped(&held, registers, extended, || f(&held));
    held.cpu().set_in_section(false);
    Some(result)
}
