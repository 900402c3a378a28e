//! What the platform tells the runtime. The other direction is [`crate::platform::Platform`].
//!
//! The timer and the page fault are called in an interrupt handler on a stack of its own with interrupts off, take no lock that the
//! interrupted code may hold, and allocate nothing. What they leave in the registers is where the interrupt returns to.
//!
//! Unsafe here: the contracts.
#![allow(unsafe_code)]

use crate::addr::Range;
#[cfg(feature = "switch-off")]
use crate::cpu::SafepointsHeld;
use crate::platform::{Fault, Registers, Verdict};
use crate::{cpu, gc, sched, tick};
use core::fmt;
use core::panic::Location;

/// The timer that `set_timer` set has fired. Outside a no-safepoint section the interrupted thread is at a safepoint: a due collection
/// runs now, and with preemption on it may be made to give the processor to another.
///
/// `extended` is what was saved of the interrupted thread besides, and may hold references: vector registers, if its code uses any.
///
/// # Safety
/// Only from that handler, with the registers that it will return to; `extended` is readable until then.
pub unsafe fn timer(registers: &mut Registers, extended: Range) {
    tick::timer(registers, extended);
}

/// An access faulted. Grows the running thread's stack, or ends that thread if it may not grow; anything else is not ours.
///
/// # Safety
/// As [`timer`].
pub unsafe fn page_fault(fault: Fault, registers: &mut Registers) -> Verdict {
    sched::page_fault(&fault, registers, gc::release_for_growth)
}

/// Runs a handler, the two above or another. Whoever allocates in it is found out.
pub fn in_handler(handler: impl FnOnce()) {
    cpu::count_handler(true);
    handler();
    cpu::count_handler(false);
}

/// What a CPU that does not answer may be doing, for a watchdog's judgement and its report.
#[derive(Clone, Copy, Debug)]
pub struct Occupation {
    /// A collection, which may take long with interrupts off.
    pub collects: bool,
    /// The no-safepoint sections that it is in.
    pub sections: u32,
}

/// Takes no lock; in any context.
pub fn occupation() -> Occupation {
    Occupation { collects: gc::is_collecting(), sections: cpu::sections() }
}

/// Somebody panicked, here. Does not return if that is one thread's affair. Where it is not (in a no-safepoint section, in a handler, off a
/// thread's stack, before there are threads) the platform is to report it and to end everything.
pub fn panic(message: fmt::Arguments<'_>, place: Option<&Location<'_>>, can_unwind: bool) {
    sched::panic(message, place, can_unwind);
}

/// For tests: a trap, of whatever kind, has stopped the running thread, and `f` looks at the world as the timer's
/// interrupt would have found it there. `None` inside a no-safepoint section, where there is no safepoint.
///
/// # Safety
/// As [`timer`].
#[cfg(feature = "switch-off")]
pub unsafe fn at_stop<R>(registers: &Registers, extended: Range, f: impl FnOnce(StoppedWorld<'_>) -> R) -> Option<R> {
    tick::at_stop(registers, extended, |held| f(StoppedWorld(held)))
}

/// The world, stopped at an instruction outside every no-safepoint section.
#[cfg(feature = "switch-off")]
pub struct StoppedWorld<'a>(&'a SafepointsHeld);

#[cfg(feature = "switch-off")]
impl StoppedWorld<'_> {
    /// [`crate::collect`], here and now.
    pub fn collect(&self) {
        gc::collect_stopped(self.0, gc::Reason::Forced);
    }

    /// [`crate::inspect::check_heap`] here: the first invariant that does not hold, if any.
    pub fn broken(&self) -> Option<impl fmt::Display + use<>> {
        // SAFETY: nobody allocates at a stop.
        gc::HEAP.check_with(&[unsafe { self.0.cache() }]).err()
    }

    /// Overwrites what [`collect`](StoppedWorld::collect) would free, and frees nothing. Returns how many objects that is.
    pub fn clobber_unreachable(&self) -> usize {
        gc::clobber_unreachable(self.0)
    }
}
