//! When to collect next. Go: mgcpacer.go.
//!
//! With GOGC the heap may grow by that percentage of what the last cycle had to look at: live objects, stacks and globals. Never
//! below 4 MiB at GOGC=100. A memory limit lowers the goal, GOGC=off or not. The world is stopped for the whole cycle,
//! so the trigger is the goal itself.

use crate::addr::{Bytes, MIB};

/// Go: `defaultHeapMinimum`.
const HEAP_MINIMUM: usize = 4 * MIB;

pub(super) struct Pacer {
    percent: Option<u32>,
    memory_limit: Option<Bytes>,
}

impl Pacer {
    pub(super) const fn new() -> Pacer {
        Pacer { percent: Some(100), memory_limit: None }
    }

    pub(super) fn set(&mut self, percent: Option<u32>, memory_limit: Option<Bytes>) {
        self.percent = percent;
        self.memory_limit = memory_limit;
    }

    pub(super) fn percent(&self) -> Option<u32> {
        self.percent
    }

    pub(super) fn memory_limit(&self) -> Option<Bytes> {
        self.memory_limit
    }

    pub(super) fn is_off(&self) -> bool {
        self.percent.is_none() && self.memory_limit.is_none()
    }

    /// The heap's size at which the next collection runs; `Bytes(usize::MAX)` if none will.
    pub(super) fn goal(&self, live: Bytes, stacks: Bytes, globals: Bytes) -> Bytes {
        let by_percent = self.percent.map_or(usize::MAX, |percent| {
            let of = |bytes: usize| (bytes as u128 * u128::from(percent) / 100).min(usize::MAX as u128) as usize;
            let grown = live.0.saturating_add(of(live.0 + stacks.0 + globals.0));
            grown.max(of(HEAP_MINIMUM))
        });
        // What the limit leaves to the heap, but always some room to work in: a limit below the live heap must not collect for ever.
        let by_limit = self.memory_limit.map_or(usize::MAX, |limit| {
            limit.0.saturating_sub(stacks.0 + globals.0).max(live.0.saturating_add(live.0 / 16).saturating_add(MIB))
        });
        Bytes(by_percent.min(by_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(percent: Option<u32>, limit: Option<usize>, live: usize) -> usize {
        let mut pacer = Pacer::new();
        pacer.set(percent, limit.map(|mib| Bytes(mib * MIB)));
        let Bytes(goal) = pacer.goal(Bytes(live * MIB), Bytes(MIB), Bytes(MIB));
        if goal == usize::MAX { goal } else { goal / MIB }
    }

    #[test]
    fn the_heap_may_double_what_was_live_and_stacks_and_globals_count() {
        assert_eq!(goal(Some(100), None, 10), 22);
        assert_eq!(goal(Some(50), None, 10), 16);
        assert_eq!(goal(Some(200), None, 10), 34);
    }

    #[test]
    fn the_goal_never_falls_below_four_mebibytes_times_gogc() {
        assert_eq!(goal(Some(100), None, 0), 4);
        assert_eq!(goal(Some(400), None, 0), 16);
    }

    #[test]
    fn off_means_never_unless_a_limit_is_set() {
        assert_eq!(goal(None, None, 10), usize::MAX);
        assert_eq!(goal(None, Some(64), 10), 62);
        assert_eq!(goal(Some(100), Some(64), 50), 62);
        assert_eq!(goal(Some(100), Some(64), 10), 22);
    }

    #[test]
    fn a_limit_below_the_live_heap_still_leaves_room() {
        assert_eq!(goal(Some(100), Some(16), 32), 35);
    }
}
