//! When to collect next. Go: mgcpacer.go.
//!
//! With GOGC the heap may grow by that percentage of what the last cycle had to look at: live objects, stacks and
//! globals. Never below 4 MiB at GOGC=100, and by a MiB at least: else GOGC=0 would collect for every span. The world
//! is stopped for the whole cycle, so the trigger is the goal itself.
//!
//! A memory limit lowers the goal, GOGC=off or not, to what it leaves beside stacks, records and the free slots of spans, and 3 % less.
//! Where the live objects leave no such room the program would do nothing but collect. So cycles that have taken, a second in all, more
//! than the program in between make the limit give way: then the heap may double. Go: `gcCPULimiter`.

use crate::addr::{Bytes, MIB};

/// Go: `defaultHeapMinimum`.
const HEAP_MINIMUM: usize = 4 * MIB;

/// Go: `sweepMinHeapDistance`.
const LEAST_GROWTH: usize = MIB;

/// Go: `capacityPerProc`.
const MOST_DEBT_NS: u64 = 1_000_000_000;

pub(super) struct Pacer {
    /// GOGC; `None`: off.
    pub(super) percent: Option<u32>,
    /// GOMEMLIMIT; `None`: off.
    pub(super) memory_limit: Option<Bytes>,
    /// How much longer cycles took than what was between them, lately.
    debt_ns: u64,
}

/// What the goal goes by.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) live: Bytes,
    pub(super) stacks: Bytes,
    pub(super) globals: Bytes,
    /// All memory that is mapped, but what is allocated and what is in no span.
    pub(super) overhead: Bytes,
}

impl Pacer {
    pub(super) const fn new() -> Pacer {
        Pacer { percent: Some(100), memory_limit: None, debt_ns: 0 }
    }

    pub(super) fn is_off(&self) -> bool {
        self.percent.is_none() && self.memory_limit.is_none()
    }

    /// A cycle has taken so long, and before it the program.
    pub(super) fn note_cycle(&mut self, cycle_ns: u64, program_ns: u64) {
        self.debt_ns = (self.debt_ns + cycle_ns).saturating_sub(program_ns).min(MOST_DEBT_NS);
    }

    /// The heap's size at which the next collection runs; `Bytes(usize::MAX)` if none will.
    pub(super) fn goal(&self, found: Found) -> Bytes {
        let Found { live, stacks, globals, overhead } = found;
        let by_percent = self.percent.map_or(usize::MAX, |percent| {
            let of = |bytes: usize| (bytes as u128 * u128::from(percent) / 100).min(usize::MAX as u128) as usize;
            let grown = live.0.saturating_add(of(live.0 + stacks.0 + globals.0));
            grown.max(of(HEAP_MINIMUM)).max(live.0.saturating_add(LEAST_GROWTH))
        });
        let by_limit = self.memory_limit.map_or(usize::MAX, |limit| {
            let left = limit.0.saturating_sub(overhead.0);
            let room = if self.debt_ns == MOST_DEBT_NS { live.0 } else { live.0 / 16 };
            left.saturating_sub((left / 100 * 3).max(MIB)).max(live.0.saturating_add(room).saturating_add(MIB))
        });
        Bytes(by_percent.min(by_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(percent: Option<u32>, limit: Option<usize>, live: usize) -> usize {
        let pacer = Pacer { percent, memory_limit: limit.map(|mib| Bytes(mib * MIB)), ..Pacer::new() };
        let [live, one] = [Bytes(live * MIB), Bytes(MIB)];
        let Bytes(goal) = pacer.goal(Found { live, stacks: one, globals: one, overhead: Bytes(2 * MIB) });
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
    fn the_heap_may_grow_by_a_mebibyte_whatever_gogc_says() {
        assert_eq!([0, 1, 20].map(|percent| goal(Some(percent), None, 10)), [11, 11, 12]);
    }

    #[test]
    fn off_means_never_unless_a_limit_is_set() {
        assert_eq!(goal(None, None, 10), usize::MAX);
        assert_eq!(goal(None, Some(64), 10), 60);
        assert_eq!(goal(Some(100), Some(64), 50), 60);
        assert_eq!(goal(Some(100), Some(64), 10), 22);
    }

    #[test]
    fn a_limit_below_the_live_heap_still_leaves_room() {
        assert_eq!(goal(Some(100), Some(16), 32), 35);
    }

    #[test]
    fn a_limit_that_leaves_no_time_for_the_program_gives_way_and_comes_back() {
        let mut pacer = Pacer { percent: None, memory_limit: Some(Bytes(16 * MIB)), ..Pacer::new() };
        let found = Found { live: Bytes(32 * MIB), ..Found::default() };
        for _ in 0..10 {
            assert_eq!(pacer.goal(found), Bytes(35 * MIB));
            pacer.note_cycle(200_000_000, 100_000_000);
        }
        assert_eq!(pacer.goal(found), Bytes(65 * MIB));
        pacer.note_cycle(100_000_000, 200_000_000);
        assert_eq!(pacer.goal(found), Bytes(35 * MIB));
        assert_eq!(goal(Some(100), None, 10), 22, "without a limit there is nothing to give way");
    }
}
