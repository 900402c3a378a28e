//! How threads end: by themselves, or where they stand.
//!
//! Unsafe here: leaving a stack for good, the record's packet.
#![allow(unsafe_code)]

use super::dispatch::{current_in, run, schedule, schedule_next};
use super::{Failure, Thread, switch};
use crate::cpu::{self, SafepointsHeld};
use crate::platform::{Fault, Registers, Verdict, platform};
use crate::stack::{self, Growth};
use crate::{fatal, report, throw};

/// The main thread's number, as in Go.
const MAIN: u64 = 1;

/// The flags with which code begins that a fault returns to instead of what faulted: interrupts on, direction up.
const RFLAGS: usize = 0x202;

/// Saves nothing that anybody will want and goes on with `f` on the CPU's own stack. In a section.
pub(super) fn leave_stack(f: extern "sysv64" fn() -> !) -> ! {
    // SAFETY: the caller has entered a section that nobody leaves.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    // SAFETY: a thread runs, so the system stack is free; nobody will switch back.
    unsafe { switch::switch_to_stack(thread.saved_sp(), held.cpu().system_stack_top(), f) };
    throw!("expected thread {} not to go on after its end", thread.id.get())
}

/// The current thread has ended and told so. Its record is free for the next; this CPU goes on with another thread, straight from here if
/// that is all there is to do.
#[inline]
pub(super) fn retire(held: &SafepointsHeld) -> ! {
    let thread = current_in(held);
    if thread.stack().has_surplus() {
        leave_stack(retire_current);
    }
    held.cpu().spares.give_back(thread);
    match held.cpu().run_queue.pop() {
        Some(next) => run(held, next),
        None => leave_stack(schedule_next),
    }
}

/// On the system stack: the current thread has ended, and there is something to tidy up.
pub(super) extern "sysv64" fn retire_current() -> ! {
    // SAFETY: whoever came here is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    held.cpu().set_current(None);
    thread.stack().trim();
    thread.panic.reset();
    held.cpu().spares.give_back(thread);
    schedule(&held)
}

/// A page fault. On its own stack, interrupts off, no lock taken. `release` has the heap give the machine some memory back, if it can.
pub(crate) fn page_fault(fault: &Fault, registers: &mut Registers, release: fn() -> bool) -> Verdict {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    let Some(thread) = cpu.current().filter(|thread| thread.stack().contains(fault.address)) else {
        return Verdict::Fatal;
    };
    let grow = || thread.stack().grow_in_fault(fault, registers.rsp, cpu.in_section(), thread.panic.is_under_way());
    let mut growth = grow();
    // Outside sections this CPU is in the midst of nothing of the heap's: what is free there is to be had.
    while growth == Growth::NoMemory && !cpu.in_section() && release() {
        growth = grow();
    }
    let failure = match growth {
        Growth::Grown => return Verdict::Resume,
        Growth::Wild => return Verdict::Fatal,
        Growth::Overflow => Failure::StackOverflow,
        Growth::NoMemory => Failure::OutOfMemory,
    };
    if cpu.in_section() {
        throw!(
            "expected {:?} of stack to suffice for a no-safepoint section, found {failure} at {}",
            stack::SECTION_RESERVE,
            fault.address
        );
    }
    let (id, stack) = (thread.id.get(), thread.stack());
    match failure {
        Failure::OutOfMemory => {
            report!("runtime: goroutine {id} stack cannot exceed {} bytes\n{failure}", stack.committed().0)
        }
        _ => report!("runtime: goroutine {id} stack exceeds {}-byte limit\n{failure}", stack.limit().0),
    }
    write_ending(thread, registers.rip, registers.rbp);
    thread.failure.set(Some(failure));
    cpu.set_in_section(true);
    registers.rip = end_failed as *const () as usize;
    registers.rflags = RFLAGS;
    registers.rbp = 0;
    registers.rsp = cpu.system_stack_top() - 8;
    Verdict::Resume
}

/// What a thread was doing that ends before its end; with the main thread the program ends, so all are shown, as in Go.
fn write_ending(thread: &'static Thread, rip: usize, rbp: usize) {
    match thread.id.get() {
        MAIN => fatal::write_all_threads(Some((rip, rbp))),
        _ => fatal::write_thread(rip, rbp),
    }
}

/// Ends the calling thread as it stands, without a result and without destructors; ends the program if it is the main thread.
pub(super) fn fail_current(thread: &'static Thread, failure: Failure) -> ! {
    if thread.id.get() == MAIN {
        platform().exit(2);
    }
    // SAFETY: the record keeps its packet until the end is told.
    if let Some(packet) = unsafe { thread.packet.get().as_ref() } {
        packet.fail(failure);
    }
    core::mem::forget(SafepointsHeld::enter());
    leave_stack(retire_current)
}

/// On the system stack, in a section: the current thread faulted and is over before its end.
extern "sysv64" fn end_failed() -> ! {
    // SAFETY: the handler has entered a section for us.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    if thread.id.get() == MAIN {
        platform().exit(2);
    }
    // SAFETY: the record keeps its packet until the end is told.
    if let (Some(failure), Some(packet)) = (thread.failure.take(), unsafe { thread.packet.get().as_ref() }) {
        packet.end(&held, Some(failure));
    }
    retire_current()
}
