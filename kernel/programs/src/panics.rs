//! What a panic costs that is caught some frames up, as Go's `panic` and `recover`: with nothing to do on the way, and with a destructor in
//! each frame.

use core::hint::black_box;
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

#[program("panics COUNT", "panics and catches COUNT times at depths of 0, 5 and 20 frames, and says what one costs")]
fn panics(arguments: &Arguments) -> u8 {
    let Some([count]) = arguments.numbers([(1, 1_000_000)]) else { return MISUSED };
    for depth in [0, 5, 20] {
        let plain = cost_ns(count, || plain_frames(depth));
        let mut dropped = 0;
        let with_destructors = cost_ns(count, || frames_with_destructors(depth, &mut dropped));
        if dropped != count * (depth + 1) {
            println!("{dropped} destructors ran instead of {}", count * (depth + 1));
            return 1;
        }
        println!("depth {depth:2}: {plain} ns, with destructors {with_destructors} ns");
    }
    println!("catching nothing: {} ns", cost_of_nothing_ns(count));
    0
}

/// One caught panic, on average.
fn cost_ns(count: u64, mut f: impl FnMut() -> u64) -> u64 {
    let start_ns = now();
    let caught = (0..count).filter(|_| catch_unwind(&mut f).is_err()).count();
    black_box(caught);
    (now() - start_ns) / count
}

fn cost_of_nothing_ns(count: u64) -> u64 {
    let start_ns = now();
    let sum: u64 = (0..count).map(|number| catch_unwind(|| black_box(number)).unwrap_or(0)).sum();
    black_box(sum);
    (now() - start_ns) / count
}

#[inline(never)]
fn plain_frames(depth: u64) -> u64 {
    if black_box(depth) == 0 {
        panic!("thrown");
    }
    plain_frames(depth - 1) + 1
}

struct Counted<'a>(&'a mut u64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        *self.0 += 1;
    }
}

#[inline(never)]
fn frames_with_destructors(depth: u64, dropped: &mut u64) -> u64 {
    let counted = Counted(dropped);
    if black_box(depth) == 0 {
        panic!("thrown");
    }
    frames_with_destructors(depth - 1, &mut *counted.0) + 1
}
