//! What the platform tells the runtime. The other direction is [`crate::platform::Platform`].
//!
//! The timer and the page fault are called in an interrupt handler on a stack of its own with interrupts off, take no lock that the
//! interrupted code may hold, and allocate nothing. What they leave in the registers is where the interrupt returns to.
//!
//! Unsafe here: two contracts.
#![allow(unsafe_code)]

use crate::platform::{Fault, Registers, Verdict};
use crate::sched;
use core::fmt;
use core::panic::Location;

/// The timer that `set_timer` set has fired. Outside a no-safepoint section the interrupted thread is at a safepoint: a due collection
/// runs now, and with preemption on another thread may go on in its place.
///
/// # Safety
/// Only from that handler, with the registers that it will return to.
pub unsafe fn timer(registers: &mut Registers) {
    sched::timer(registers);
}

/// An access faulted. Grows the running thread's stack, or ends that thread if it may not grow; anything else is not ours.
///
/// # Safety
/// As [`timer`].
pub unsafe fn page_fault(fault: Fault, registers: &mut Registers) -> Verdict {
    sched::page_fault(&fault, registers)
}

/// Somebody panicked, here. Does not return if that is one thread's affair. Where it is not (in a no-safepoint section, in a handler, off a
/// thread's stack, before there are threads) the platform is to report it and to end everything.
pub fn panic(message: fmt::Arguments<'_>, place: Option<&Location<'_>>, can_unwind: bool) {
    sched::panic(message, place, can_unwind);
}
