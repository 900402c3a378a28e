//! Rows `mem/*`: what the heap takes for objects of random sizes, beside the bytes that were asked for.

use super::measure::{Bench, MIB};
use super::pcg::Pcg;
use super::value::Thousandths;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::prelude::*;

const ENDS: [&str; 12] = [
    "filled/heap-alloc",
    "filled/heap-inuse",
    "filled/heap-held",
    "filled/metadata",
    "churned-before-gc/heap-alloc",
    "churned-before-gc/heap-inuse",
    "churned-before-gc/heap-held",
    "churned-before-gc/metadata",
    "churned-after-gc/heap-alloc",
    "churned-after-gc/heap-inuse",
    "churned-after-gc/heap-held",
    "churned-after-gc/metadata",
];

/// Keeps objects of 8 to 1024 bytes without references alive: right after a first fill, and after every object was replaced on average four
/// times under GOGC=100. The table of references to them is not counted as overhead.
#[inline(never)] // 6 KiB of figures on the stack, which a collection would scan with every other row
pub(super) fn overhead(bench: &Bench) {
    let live = if bench.quick { 16 * MIB } else { 128 * MIB };
    if !bench.wants_any("mem/", &ENDS) || !bench.fits("mem", 3 * live) {
        return;
    }
    collect();
    let empty = memory_stats();
    let mut random = Pcg::new(5, 6);
    let mut live_bytes = 0;
    let mut objects: Vec<*const u8> = Vec::with_capacity(live / 256);
    let mut sizes: Vec<u16> = Vec::with_capacity(live / 256);
    while live_bytes < live {
        let (object, size) = one(&mut random);
        objects.push(object);
        sizes.push(size);
        live_bytes += usize::from(size);
    }
    let table_bytes = objects.capacity() * 8 + sizes.capacity() * 2;
    let show = |name: &str, live_bytes: usize| {
        let stats = memory_stats();
        let row = |end: &str, now: usize, before: usize, beside: usize| {
            let more = now as i128 - before as i128 - beside as i128;
            bench.report(&format!("mem/{name}/{end}"), Thousandths::ratio(more, live_bytes as u64), "x-live");
        };
        row("heap-alloc", stats.heap_alloc, empty.heap_alloc, table_bytes);
        row("heap-inuse", stats.heap_inuse, empty.heap_inuse, table_bytes);
        row("heap-held", stats.heap_sys, empty.heap_sys, table_bytes);
        row("metadata", stats.gc_sys + stats.mspan_sys, empty.gc_sys + empty.mspan_sys, 0);
    };
    collect();
    show("filled", live_bytes);
    for _ in 0..4 * objects.len() {
        let index = random.below(objects.len());
        live_bytes -= usize::from(sizes[index]);
        (objects[index], sizes[index]) = one(&mut random);
        live_bytes += usize::from(sizes[index]);
    }
    show("churned-before-gc", live_bytes);
    collect();
    show("churned-after-gc", live_bytes);
    black_box(objects);
}

/// An object of random size, and the size. Nobody gives it back: it is the collector's.
fn one(random: &mut Pcg) -> (*const u8, u16) {
    let size = 8 + random.below(1017);
    (Box::into_raw(vec![0u8; size].into_boxed_slice()).cast(), size as u16)
}
