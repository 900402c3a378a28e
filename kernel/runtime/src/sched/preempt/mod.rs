//! Taking the processor from a thread that keeps it: the thread is made to give it. Go: preempt.go, `asyncPreempt`.
//!
//! 1. The timer's handler finds that one thread has had the processor for a whole tick while others wait. It writes where the thread was
//!    onto the thread's own stack, as a call would, and returns into a stub ([`stub`]) instead.
//! 2. The stub saves the flags and all that a call may change (what it may not is saved by whom it calls), and calls [`preempted`], which
//!    yields like any thread. So there is one way from a thread to the next, and the collector finds all registers on the stack.
//! 3. When its turn comes again, the stub restores everything and returns to the interrupted instruction.
//!
//! The thread is not asked, so the handler looks where it is ([`inject`]) and otherwise lets it run until the next tick: near its limit,
//! for preemption is to kill nobody; where the unwinder's last step keeps registers below RSP; and on its way to yielding already, where
//! a host may stall us again and again.
//!
//! No section is open when the stub begins and ends: it may be stopped like any code, and while it restores even preempted itself.
//!
//! Unsafe here: the push onto the interrupted thread's stack.
#![allow(unsafe_code)]

mod stub;

use super::Thread;
use super::dispatch::{current_in, yield_in};
use crate::addr::Address;
use crate::cpu::SafepointsHeld;
use crate::platform::{RED_ZONE, Registers};
use crate::switch_off::{self, Mechanism};
use core::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_feature = "sse2")]
pub(super) use stub::choose_instruction;

#[unsafe(link_section = ".data.runtime")]
static PREEMPTION: AtomicBool = AtomicBool::new(false);

/// Whether the timer takes the processor from a thread that keeps it (Go's behaviour) or threads only give it (the default).
/// `GODEBUG=asyncpreemptoff=0` switches it on from the start.
pub fn set_preemption(on: bool) {
    PREEMPTION.store(on, Ordering::Relaxed);
}

/// At a tick that a handler acts on, for the thread that it has interrupted.
pub(crate) fn preempt_if_due(held: &SafepointsHeld, registers: &mut Registers) {
    if is_due(held) {
        inject(current_in(held), registers);
    }
}

/// At a tick that came in a section, at the section's end.
pub(crate) fn yield_if_due(held: &SafepointsHeld) {
    if is_due(held) {
        yield_in(held);
    }
}

/// At a tick: whether the thread that runs has run since the last one and others wait.
fn is_due(held: &SafepointsHeld) -> bool {
    let stayed = held.cpu().stayed_since_tick();
    PREEMPTION.load(Ordering::Relaxed) && stayed && !held.cpu().run_queue.is_empty()
}

/// Makes the thread that a handler has interrupted outside every section call the stub, unless it stands where it must not.
fn inject(thread: &Thread, registers: &mut Registers) {
    if thread.is_preempted() {
        return;
    }
    let is_panicking = thread.panic.is_under_way();
    let has_room = thread.stack().contains_sp(registers.rsp)
        // Now, and all of it: no fault in the handler, no overflow and no want of memory in the stub.
        && thread.stack().make_room(Address(registers.rsp - RED_ZONE.0 - stub::ROOM), is_panicking);
    if !has_room && !switch_off::is_off(Mechanism::PreemptionRoom) {
        return;
    }
    // Only a panic under way has that step; in other code rdi may hold such an address for ever.
    if is_panicking
        && thread.unwinders_registers(registers).is_some()
        && !switch_off::is_off(Mechanism::UnwindersRegisters)
    {
        return;
    }
    registers.rsp -= RED_ZONE.0 + size_of::<usize>();
    // SAFETY: committed, and below all that the thread uses.
    unsafe { (registers.rsp as *mut usize).write(registers.rip) };
    thread.stub_frame.set(registers.rsp - size_of::<usize>());
    registers.rip = stub::stub as *const () as usize;
}

/// On the thread's own stack, called by the stub.
#[cfg_attr(test, expect(dead_code, reason = "a test calls the stub alone"))]
extern "sysv64" fn preempted() {
    let held = SafepointsHeld::enter();
    yield_in(&held);
    current_in(&held).stub_frame.set(0);
}
