//! How threads end: by themselves, or where they stand.
//!
//! Unsafe here: leaving a stack for good, the record's slots.
#![allow(unsafe_code)]

use super::dispatch::{current_in, schedule};
use super::{Failure, RootSlots, Thread, records, switch};
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

/// On the system stack: the current thread has ended, its record and stack are free for the next.
pub(super) extern "sysv64" fn retire_current() -> ! {
    // SAFETY: whoever came here is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    held.cpu().set_current(None);
    // SAFETY: the thread has ended; nobody else writes its slots. A closure that was never taken is garbage, not dropped.
    core::mem::forget(unsafe { core::mem::replace(&mut *thread.slots.get(), RootSlots { entry: None, packet: None }) });
    records::give_back(thread);
    schedule(&held)
}

/// A page fault. On its own stack, interrupts off, no lock taken.
pub(crate) fn page_fault(fault: &Fault, registers: &mut Registers) -> Verdict {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    let Some(thread) = cpu.current().filter(|thread| thread.stack().contains(fault.address)) else {
        return Verdict::Fatal;
    };
    let failure =
        match thread.stack().grow_in_fault(fault, registers.rsp, cpu.in_section(), thread.panic.is_under_way()) {
            Growth::Grown => return Verdict::Resume,
            Growth::Wild => return Verdict::Fatal,
            Growth::Overflow => Failure::StackOverflow,
            Growth::NoMemory(_) => Failure::OutOfMemory,
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
    // SAFETY: the record is this thread's; its closure lies on its stack and still holds the packet.
    if let Some(packet) = unsafe { (*thread.slots.get()).packet } {
        // SAFETY: see above.
        unsafe { (*packet).fail(failure) };
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
    // SAFETY: the thread's closure lies on its stack and still holds the packet.
    if let (Some(failure), Some(packet)) = (thread.failure.take(), unsafe { (*thread.slots.get()).packet }) {
        // SAFETY: see above.
        unsafe { (*packet).fail(failure) };
    }
    retire_current()
}
