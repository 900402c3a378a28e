//! The rig: runs a loop instruction by instruction, and at each of them shows what a collector there would have done.
//!
//! 1. A loop is a function from a seed to a sum over all that it has read. It runs once undisturbed, for the right sum.
//! 2. It runs again under the trap flag. After each instruction outside the no-safepoint sections, everything is marked from the
//!    roots that the collector would have found there, and what has no mark is overwritten. Every [`COLLECT_EVERY`]th time it is
//!    collected besides, so that the allocator hands its memory out again.
//! 3. A loop that has read from an object which no root led to has read junk: another sum, or a general protection fault.
//!
//! An object that is not reachable any more because nobody will read it does not matter, and makes no difference.

use crate::canary::overwrite_dead_frames;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::addr::Range;
use runtime::platform::Registers;
use runtime::prelude::*;
use runtime::testing::{self, Hook};
use runtime::upcall::{self, StoppedWorld};

const COLLECT_EVERY: usize = 97;
/// The loops' lengths depend on the seed, so that unrolled ones have something left over. A process's step is dear: a signal.
const SEEDS: core::ops::RangeInclusive<u64> = 1..=if cfg!(hosted) { 2 } else { 3 };

static STOPS: AtomicUsize = AtomicUsize::new(0);

/// How much a loop has to read, about.
pub(crate) const COUNT: usize = 24;

/// One more word in a sum. No two sums of different words are alike, in practice.
pub(crate) fn fold(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// Numbers without end, in no order.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    core::iter::successors(Some(fold(0, seed)), move |last| Some(fold(seed, *last)))
}

/// A loop to step through, and its name for the one who has to find out what went wrong.
pub(crate) type Loop = (&'static str, fn(u64) -> u64);

#[macro_export]
macro_rules! loops {
    ($($name:ident)*) => { [$((stringify!($name), $name as fn(u64) -> u64)),*] };
}

/// What a loop summed up undisturbed and under the trap flag, and at how many instructions it was stopped.
pub(crate) struct Stepped {
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) stops: usize,
}

/// Runs a loop twice on a stack of its own.
pub(crate) fn step_through(the_loop: fn(u64) -> u64, seed: u64) -> Stepped {
    let both = go(move || {
        let expected = the_loop(black_box(seed));
        // What the first run has left there might hold what the second should hold itself.
        overwrite_dead_frames();
        (expected, testing::each_instruction(&(look as Hook), || the_loop(black_box(seed))))
    });
    let before = STOPS.load(Ordering::Relaxed);
    match both.join() {
        Ok((expected, found)) => Stepped { expected, found, stops: STOPS.load(Ordering::Relaxed) - before },
        Err(failure) => panic!("the loop has ended with {failure}"),
    }
}

/// Steps through all of them; none may lose an object that it still reads.
pub(crate) fn assert_held(loops: &[Loop]) {
    for (name, the_loop) in loops {
        for seed in SEEDS {
            let Stepped { expected, found, stops } = step_through(*the_loop, seed);
            assert!(stops > 100, "{name}({seed}) was stopped only {stops} times");
            assert_eq!(found, expected, "{name}({seed}) has lost an object");
        }
        // Whoever listens takes a minute's silence for the end, which a busy host may need for all of them.
        runtime::report!("{name} holds what it reads");
    }
}

fn look(registers: &Registers, extended: Range) {
    let look = |world: StoppedWorld<'_>| {
        world.clobber_unreachable();
        if STOPS.fetch_add(1, Ordering::Relaxed) % COLLECT_EVERY == COLLECT_EVERY - 1 {
            world.collect();
        }
    };
    // SAFETY: a hook runs in the trap's handler.
    unsafe { upcall::at_stop(registers, extended, look) };
}
