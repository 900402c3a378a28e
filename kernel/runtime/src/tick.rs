//! The timer's tick: what the scheduler and the collector each do at it, and when it may come. Go: `sysmon`, `retake`.
//!
//! 1. Outside every section the thread is at a safepoint: the handler acts, with the thread's registers where the collector looks, and
//!    may send the thread away to give the processor to another.
//! 2. In a section the handler only notes it; the section's end acts ([`tick_in_thread`]), or the scheduler, if no thread runs.
//!
//! Unsafe here: being in a handler.
#![allow(unsafe_code)]

use crate::addr::Range;
use crate::cpu::{self, Interrupted, SafepointsHeld};
use crate::platform::{RED_ZONE, Registers, platform};
use crate::switch_off::{self, Mechanism};
use crate::{gc, sched};
use core::sync::atomic::{AtomicU64, Ordering};

#[unsafe(link_section = ".data.runtime")]
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Timer ticks that were acted on, for tests of the safepoint.
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// What a tick does wherever it finds the CPU. Not on a thread's stack.
pub(crate) fn tick(held: &SafepointsHeld) {
    TICKS.fetch_add(1, Ordering::Relaxed);
    let now_ns = platform().now();
    sched::wake_sleepers(held, now_ns);
    gc::collect_if_due(held, now_ns);
    gc::scavenge_if_due(now_ns);
    sched::arm_timer(held);
}

/// The tick that came in a section, at the section's end.
pub(crate) fn tick_in_thread(held: &SafepointsHeld) {
    held.on_system_stack(|| tick(held));
    sched::yield_if_due(held);
}

/// The timer's interrupt. On its own stack, interrupts off.
pub(crate) fn timer(registers: &mut Registers, extended: Range) {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    if switch_off::is_off(Mechanism::TimerStop) {
        return sched::arm_timer(&held);
    }
    if cpu.in_section() && !switch_off::is_off(Mechanism::Sections) {
        cpu.note();
        // The scheduler may be on its way into `hlt`, with nobody to end its section: the timer asks again.
        if cpu.current().is_none() {
            sched::arm_timer(&held);
        }
        return;
    }
    cpu.take_note();
    stopped(&held, registers, extended, || tick(&held));
    sched::preempt_if_due(&held, registers);
    cpu.set_in_section(false);
}

/// Runs `f` in a section of the handler's, with all that the interrupted thread has where the collector looks.
fn stopped<R>(held: &SafepointsHeld, registers: &Registers, extended: Range, f: impl FnOnce() -> R) -> R {
    let cpu = held.cpu();
    cpu.set_in_section(true);
    let below = if switch_off::is_off(Mechanism::RedZone) { 0 } else { RED_ZONE.0 };
    sched::current_in(held).saved_sp().set(registers.rsp - below);
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
