//! Threads that wait for a time, the earliest first. Go: time.go.

use super::Thread;
use super::dispatch::ready;
use crate::cpu::SafepointsHeld;
use crate::platform::platform;
use core::cell::Cell;

/// How often the timer ticks while a thread runs; also the slice of preemption. Go: `forcePreemptNS`.
const TICK_NS: u64 = 10_000_000;

/// One timer interrupt at the next tick, or earlier if a sleeper is due.
pub(crate) fn arm_timer(held: &SafepointsHeld) {
    let tick = platform().now() + TICK_NS;
    platform().set_timer(held.cpu().sleepers.first_wake_ns().map_or(tick, |wake| wake.min(tick)));
}

/// The tick's part here.
pub(crate) fn wake_sleepers(held: &SafepointsHeld, now_ns: u64) {
    while let Some(thread) = held.cpu().sleepers.take_due(now_ns) {
        ready(held, thread);
    }
}

/// A list sorted by the time to wake; adding costs its length. One per CPU, touched inside its sections.
pub(crate) struct Sleepers {
    first: Cell<Option<&'static Thread>>,
}

impl Sleepers {
    pub(crate) const fn new() -> Sleepers {
        Sleepers { first: Cell::new(None) }
    }

    /// True if the thread is now the first to wake.
    pub(super) fn add(&self, thread: &'static Thread, wake_at_ns: u64) -> bool {
        thread.wake_at_ns.set(wake_at_ns);
        let mut place = &self.first;
        while let Some(other) = place.get().filter(|other| other.wake_at_ns.get() <= wake_at_ns) {
            place = &other.next;
        }
        thread.next.set(place.replace(Some(thread)));
        core::ptr::eq(place, &self.first)
    }

    fn first_wake_ns(&self) -> Option<u64> {
        self.first.get().map(|thread| thread.wake_at_ns.get())
    }

    fn take_due(&self, now_ns: u64) -> Option<&'static Thread> {
        let thread = self.first.get().filter(|thread| thread.wake_at_ns.get() <= now_ns)?;
        self.first.set(thread.next.take());
        Some(thread)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }
}
