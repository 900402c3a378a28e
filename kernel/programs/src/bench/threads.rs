//! Rows `stack/*`, `goroutine/*/p1`, `gosched/*/p1`: threads, their switches and their stacks.

use super::measure::{Bench, MIB};
use super::value::{Thousandths, median};
use alloc::format;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use runtime::prelude::*;

pub(super) fn switches(bench: &Bench) {
    // Start and finish, 100 threads at a time, on the records and stacks of those before.
    bench.row("goroutine/create+finish/p1", 10_000, |mut count| {
        while count > 0 {
            let now = count.min(100);
            start_and_wait(now);
            count -= now;
        }
    });
    // Start one and wait for it.
    bench.row("goroutine/spawn+join/p1", 10_000, |count| {
        for _ in 0..count {
            go(|| ()).join().expect("it does nothing");
        }
    });
    // Two threads that only yield: one switch per yield.
    let name = "gosched/switch/p1";
    if bench.wants(name) {
        let pair = bench.per_op(100_000, &mut |count| {
            let yields = move || (0..count).for_each(|_| yield_now());
            let threads = [go(yields), go(yields)];
            threads.into_iter().for_each(|thread| thread.join().expect("it only yields"));
        });
        bench.report(name, Thousandths(pair.0 / 2), "ns/switch");
    }
}

/// As a wait group has it: who comes last wakes the one that waits.
fn start_and_wait(count: u64) {
    static LEFT: AtomicU64 = AtomicU64::new(0);
    LEFT.store(count, Ordering::Relaxed);
    let waiter = current();
    for _ in 0..count {
        go(move || {
            if LEFT.fetch_sub(1, Ordering::AcqRel) == 1 {
                waiter.ready();
            }
        });
    }
    while LEFT.load(Ordering::Acquire) > 0 {
        park();
    }
}

/// The address of the deepest frame's local.
static LOWEST: AtomicUsize = AtomicUsize::new(0);

/// Calls itself `depth` times; each frame holds a pointer into the frame above, which Go would have to mend when it moves the stack.
#[inline(never)]
fn descend(depth: usize, up: &u64) -> u64 {
    let mut up: *const u64 = up;
    // SAFETY: nothing. Else the compiler would pass the number instead of the pointer.
    unsafe { asm!("/* {} */", inout(reg) up, options(readonly, nostack, preserves_flags)) };
    let mut local = [0u64; 4];
    // SAFETY: still what the caller passed.
    local[depth & 3] = unsafe { *up }.wrapping_add(1);
    if depth == 0 {
        LOWEST.store((&raw const local).addr(), Ordering::Relaxed);
        return local[0];
    }
    descend(depth - 1, &local[depth & 3]).wrapping_add(local[(depth + 1) & 3])
}

/// Recursion to a depth in bytes on a thread of its own, first with the stack growing, then again on the grown one. The collector is off.
pub(super) fn stacks(bench: &Bench) {
    set_gc_percent(None);
    if !bench.wants_any("stack", &ENDS) {
        return;
    }
    let frame = elsewhere(0, || {
        descend(1000, &0);
        descend(1000, &0);
        let deep = LOWEST.load(Ordering::Relaxed);
        descend(0, &0);
        LOWEST.load(Ordering::Relaxed).wrapping_sub(deep) / 1000
    });
    bench.report("stack/frame", Thousandths::each(frame as u64, 1), "bytes");
    let clock = bench.per_op(100_000, &mut |count| (0..count).for_each(|_| _ = black_box(now())));
    for (size_name, size) in [("64KiB", 64 << 10), ("1MiB", MIB), ("64MiB", 64 * MIB)] {
        let name = format!("stack/{size_name}");
        if !bench.wants_any(&name, &["/growing", "/grown", "/growth-total"]) || !bench.fits(&name, size) {
            continue;
        }
        let depth = size / frame;
        let (mut growing, mut grown) = (Vec::new(), Vec::new());
        let start_ns = now();
        while growing.len() < 3 || !bench.fixed && now() - start_ns < bench.target_ns && growing.len() < 10_000 {
            let [first_ns, second_ns] = elsewhere(size, move || {
                let before_ns = now();
                black_box(descend(depth, &0));
                let between_ns = now();
                black_box(descend(depth, &0));
                [between_ns - before_ns, now() - between_ns]
            });
            let each = |ns: u64| Thousandths::ratio(i128::from(ns) * 1000 - i128::from(clock.0), depth as u64 * 1000);
            growing.push(each(first_ns));
            grown.push(each(second_ns));
        }
        let (growing, grown) = (median(growing), median(grown));
        let growth = Thousandths::ratio(i128::from(growing.0 - grown.0) * depth as i128, 1_000_000);
        bench.report(&format!("{name}/growing"), growing, "ns/frame");
        bench.report(&format!("{name}/grown"), grown, "ns/frame");
        bench.report(&format!("{name}/growth-total"), growth, "us");
    }
}

const ENDS: [&str; 10] = [
    "/frame",
    "/64KiB/growing",
    "/64KiB/grown",
    "/64KiB/growth-total",
    "/1MiB/growing",
    "/1MiB/grown",
    "/1MiB/growth-total",
    "/64MiB/growing",
    "/64MiB/grown",
    "/64MiB/growth-total",
];

/// Runs `f` on a thread whose stack may take so many bytes and a little more.
fn elsewhere<T: Send + 'static>(bytes: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = Builder::new().stack_limit(bytes.max(MIB) + MIB / 4).spawn(f);
    thread.ok().and_then(|thread| thread.join().ok()).expect("memory for the stack")
}
