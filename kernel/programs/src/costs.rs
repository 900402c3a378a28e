//! What the machine takes for two things that Go pays for otherwise: a page fault that grows a stack, and the timer's
//! interrupt, which stops a thread wherever it is.

use alloc::vec::Vec;
use core::hint::black_box;
use runtime::inspect::current_stack;
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

#[program("costs ROUNDS", "says what a stack's growth, a stop by the timer and an empty collection cost")]
fn costs(arguments: &Arguments) -> u8 {
    let Some([rounds]) = arguments.numbers([(1, 1_000)]) else { return MISUSED };
    let growths: Option<Vec<Growth>> = (0..rounds).map(|_| go(grow).join().ok()).collect();
    let Some(growths) = growths else { return 1 };
    println!("stack/growth-fault {} ns/fault", median(growths.iter().map(|growth| growth.ns / growth.faults)));
    println!("stack/growth {} ns/4KiB", median(growths.iter().map(|growth| growth.ns / growth.pages)));
    println!("stw/tick {} ns", median((0..rounds).map(|_| tick_ns())));
    println!("gc/empty {} ns", median((0..rounds).map(|_| collection_ns())));
    0
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// A stack's growth to a mebibyte, without what the same calls take on a stack that is there.
struct Growth {
    ns: u64,
    faults: u64,
    pages: u64,
}

const DEEP: usize = 1 << 20;

fn grow() -> Growth {
    let before = current_stack().committed.0;
    let (_, growths) = (deepen(0), runtime::inspect::stack_growths().0);
    let start_ns = now();
    black_box(deepen(DEEP));
    let first_ns = now();
    black_box(deepen(DEEP));
    let (fresh, again) = (first_ns - start_ns, now() - first_ns);
    Growth {
        ns: fresh.saturating_sub(again),
        faults: (runtime::inspect::stack_growths().0 - growths).max(1) as u64,
        pages: ((current_stack().committed.0 - before) / 4096).max(1) as u64,
    }
}

/// Calls itself until so many bytes are in use, a kibibyte a frame.
#[inline(never)]
fn deepen(bytes: usize) -> usize {
    let frame = black_box([0u8; 1024]);
    let below = if bytes > frame.len() { deepen(bytes - frame.len()) } else { 0 };
    below + usize::from(black_box(&frame)[0]) + 1
}

/// How long a thread that does nothing but read the clock is away for a tick that finds nothing to do.
fn tick_ns() -> u64 {
    let ticks = runtime::ticks();
    let mut last_ns = now();
    loop {
        let here_ns = now();
        if runtime::ticks() != ticks {
            // It may have come behind that reading.
            return now() - last_ns;
        }
        last_ns = here_ns;
    }
}

fn collection_ns() -> u64 {
    let start_ns = now();
    collect();
    now() - start_ns
}
