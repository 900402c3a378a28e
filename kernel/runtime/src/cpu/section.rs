//! The word of a no-safepoint section. Its halves are how deep the CPU is in and what handlers noted meanwhile, so that the instruction
//! that counts down says whether there is anything to do: zero, this was the outermost and nothing was noted.
//!
//! Only this CPU and its handlers touch them, so no order between CPUs matters, but an interrupt may come between any two instructions.
//! Entering and leaving are assembly ([`SafepointsHeld`](super::SafepointsHeld), [`Allocating`](super::Allocating)); tests.rs spells them
//! out instruction by instruction and lets the timer interrupt at each.

use core::sync::atomic::{AtomicU32, Ordering};

#[repr(C, align(8))]
pub(super) struct Section {
    /// The lower half: counted by instructions for the whole word.
    pub(super) depth: AtomicU32,
    /// Set by handlers that found a section, cleared at its end.
    pub(super) noted: AtomicU32,
}

/// The timer ticked, or the world is to be stopped: do at the next safepoint what the tick does.
const TICK: u32 = 1;
/// Under gcstress: this CPU's cache is to be flushed at the section's end, so that the next allocation is noticed too.
const EMPTY_CACHE: u32 = 2;

/// Added to the depth while a handler runs, so that whoever allocates there finds a section.
pub(super) const HANDLER: u32 = 1 << 16;

impl Section {
    pub(super) const fn new(depth: u32) -> Section {
        Section { depth: AtomicU32::new(depth), noted: AtomicU32::new(0) }
    }

    pub(super) fn is_inside(&self) -> bool {
        self.sections() != 0
    }

    /// How many of the code that runs, or that a handler interrupted.
    pub(super) fn sections(&self) -> u32 {
        self.depth.load(Ordering::Relaxed) % HANDLER
    }

    /// Of the code that asks, which is in one: whether there is no other, and no handler.
    pub(super) fn is_outermost(&self) -> bool {
        self.depth.load(Ordering::Relaxed) == 1
    }

    pub(super) fn set_inside(&self, inside: bool) {
        let handlers = self.depth.load(Ordering::Relaxed) & !(HANDLER - 1);
        self.depth.store(handlers | u32::from(inside), Ordering::Relaxed);
    }

    pub(super) fn note(&self) {
        self.noted.fetch_or(TICK, Ordering::Relaxed);
    }

    pub(super) fn take_note(&self) -> bool {
        self.take(TICK)
    }

    pub(super) fn has_note(&self) -> bool {
        self.noted.load(Ordering::Relaxed) & TICK != 0
    }

    pub(super) fn note_empty_cache(&self) {
        self.noted.fetch_or(EMPTY_CACHE, Ordering::Relaxed);
    }

    pub(super) fn take_empty_cache(&self) -> bool {
        self.take(EMPTY_CACHE)
    }

    fn take(&self, note: u32) -> bool {
        self.noted.fetch_and(!note, Ordering::Relaxed) & note != 0
    }
}

#[cfg(test)]
mod tests;
