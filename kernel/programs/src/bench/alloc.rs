//! Rows `alloc/*` and `alloc-parallel/*/p1`: one thread allocates and drops.
//!
//! - gogc=off: the collector runs between timed batches only. Neither mark nor sweep is in the figure; clearing of reused memory is.
//! - gogc=100: steady state with an almost empty live heap, a cycle about every 4 MiB: mark and sweep are in the figure.

use super::measure::{Bench, MIB, fixed_count};
use super::value::Thousandths;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::prelude::*;

/// Types with a reference: the collector must scan them.
#[derive(Trace)]
struct Scan<const REST: usize> {
    _reference: Option<Gc<u8>>,
    _rest: [u8; REST],
}

/// Where a row stores what it allocates: a static that is `#[used]`, else the compiler, which sees that nobody reads
/// it, stores nothing there.
type Sink<T> = GcCell<Option<Gc<T>>>;

struct Row {
    name: &'static str,
    size: usize,
    run: fn(u64),
    forget: fn(),
}

/// A row whose loop stores `$new`, a new `$type`, in a static of its own.
macro_rules! row {
    ($name:literal, $type:ty, $new:expr) => {{
        #[used]
        static SINK: Sink<$type> = Sink::null();
        let run = |count| {
            for _ in 0..count {
                SINK.set(Some($new));
            }
        };
        Row { name: $name, size: size_of::<$type>(), run, forget: || SINK.set(None) }
    }};
}

macro_rules! noscan {
    ($name:literal, $size:expr) => {
        row!($name, [u8; $size], Gc::new([0; $size]))
    };
}

/// What LLVM would make on the stack and copy.
macro_rules! zeroed {
    ($name:literal, $size:expr) => {
        row!($name, [u8; $size], Gc::zeroed())
    };
}

macro_rules! scan {
    ($name:literal, $size:literal) => {
        row!($name, Scan<{ $size - 8 }>, Gc::new(Scan { _reference: None, _rest: [0; $size - 8] }))
    };
}

fn rows() -> [Row; 22] {
    [
        noscan!("tiny/1", 1),
        noscan!("tiny/2", 2),
        noscan!("tiny/4", 4),
        noscan!("tiny/8", 8),
        noscan!("noscan/16", 16),
        noscan!("noscan/32", 32),
        noscan!("noscan/64", 64),
        noscan!("noscan/128", 128),
        noscan!("noscan/256", 256),
        zeroed!("noscan/512", 512),
        zeroed!("noscan/1024", 1024),
        zeroed!("noscan/4096", 4096),
        zeroed!("noscan/8192", 8192),
        zeroed!("noscan/32768", 32768),
        scan!("scan/8", 8),
        scan!("scan/16", 16),
        scan!("scan/24", 24),
        scan!("scan/64", 64),
        scan!("scan/512", 512),
        zeroed!("large/64KiB", 64 << 10),
        zeroed!("large/1MiB", MIB),
        zeroed!("large/16MiB", 16 * MIB),
    ]
}

pub(super) fn serial(bench: &Bench) {
    let rows = rows();
    set_gc_percent(None);
    for row in &rows {
        let name = format!("alloc/{}/gogc=off", row.name);
        if bench.wants(&name) && bench.fits(&name, bench.batch_bytes(row.size)) {
            bench.report(&name, bench.per_op_no_gc(row.size, &mut { row.run }), "ns/op");
        }
        (row.forget)();
    }
    set_gc_percent(Some(100));
    for row in &rows {
        let name = format!("alloc/{}/gogc=100", row.name);
        if bench.fits(&name, 4 * row.size) {
            bench.row(&name, fixed_count(row.size), row.run);
        }
        (row.forget)();
    }
}

/// The sum over p threads; with one CPU p is 1. The thread is started within the timed region, as in Go.
pub(super) fn parallel(bench: &Bench) {
    #[used]
    static BALLAST: Sink<[u8; 64 * MIB]> = Sink::null();
    for row in [noscan!("noscan/64", 64), scan!("scan/64", 64)] {
        let mut all = |count| go(move || (row.run)(count)).join().expect("the thread only allocates");
        let name = |state: &str| format!("alloc-parallel/{}/p1/gogc={state}", row.name);
        let report = |name: &str, each: Thousandths| bench.report(name, each.rate(1000), "Mops/s");
        let count = fixed_count(row.size);

        set_gc_percent(None);
        let off = name("off");
        if bench.wants(&off) && bench.fits(&off, bench.batch_bytes(row.size)) {
            report(&off, bench.per_op_no_gc(row.size, &mut all));
        }
        set_gc_percent(Some(100));
        let on = name("100");
        if bench.wants(&on) {
            report(&on, bench.per_op(count, &mut all));
        }
        let live = name("100-64MiB-live");
        if bench.wants(&live) && bench.fits(&live, 128 * MIB) {
            BALLAST.set(Some(Gc::zeroed()));
            collect();
            report(&live, bench.per_op(count, &mut all));
            BALLAST.set(None);
            collect();
        }
        (row.forget)();
    }
}

/// Blocks of the global allocator, each freed before the next is made.
pub(super) fn global(bench: &Bench) {
    let row = |name: &str, run: fn()| bench.row(name, 100_000, |count| (0..count).for_each(|_| run()));
    row("global/box/40", || drop(black_box(Box::new([1u64; 5]))));
    row("global/bytes/100", || drop(black_box(Vec::<u8>::with_capacity(black_box(100)))));
    row("global/push/32", || {
        let mut all = Vec::new();
        (0..black_box(32u64)).for_each(|n| all.push(n));
        drop(black_box(all));
    });
}
