//! Rows `bintrees/*`, `gcbench/*`, `mark/*`, `sweep/*`, `stw/0-spinners/*`: the collector, alone and under a program.

use super::measure::{Bench, MIB, time};
use super::pcg::Pcg;
use super::value::{Thousandths, median, percentile};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use runtime::prelude::*;

/// A node of the Benchmarks Game's binary trees.
#[derive(Trace)]
struct Tree {
    left: Option<Gc<Tree>>,
    right: Option<Gc<Tree>>,
}

impl Tree {
    fn bottom_up(depth: usize) -> Gc<Tree> {
        let child = || Some(Tree::bottom_up(depth - 1));
        Gc::new(if depth == 0 { Tree { left: None, right: None } } else { Tree { left: child(), right: child() } })
    }

    fn check(&self) -> usize {
        let Some(left) = self.left else { return 1 };
        1 + left.check() + self.right.map_or(0, |right| right.check())
    }
}

fn trees(depth: usize) {
    #[used]
    static LONG_LIVED: GcCell<Option<Gc<Tree>>> = GcCell::null();
    black_box(Tree::bottom_up(depth + 1).check()); // the stretch tree
    LONG_LIVED.set(Some(Tree::bottom_up(depth)));
    for each in (4..=depth).step_by(2) {
        for _ in 0..1 << (depth - each + 4) {
            black_box(Tree::bottom_up(each).check());
        }
    }
    black_box(LONG_LIVED.swap(None).map(|tree| tree.check()));
}

pub(super) fn binary_trees(bench: &Bench) {
    let depths: &[usize] = if bench.quick { &[12] } else { &[16, 18] };
    for &depth in depths {
        bench.with_gc(&format!("bintrees/{depth}/p1"), || trees(depth));
    }
}

/// A node of GCBench (Ellis, Kovac, Boehm).
#[derive(Trace)]
struct Node {
    left: GcCell<Option<Gc<Node>>>,
    right: GcCell<Option<Gc<Node>>>,
    _i: usize,
    _j: usize,
}

impl Node {
    fn new(left: Option<Gc<Node>>, right: Option<Gc<Node>>) -> Gc<Node> {
        Gc::new(Node { left: GcCell::new(left), right: GcCell::new(right), _i: 0, _j: 0 })
    }

    fn populate(&self, depth: usize) {
        if depth > 0 {
            let (left, right) = (Node::new(None, None), Node::new(None, None));
            self.left.set(Some(left));
            self.right.set(Some(right));
            left.populate(depth - 1);
            right.populate(depth - 1);
        }
    }

    fn bottom_up(depth: usize) -> Gc<Node> {
        match depth {
            0 => Node::new(None, None),
            _ => Node::new(Some(Node::bottom_up(depth - 1)), Some(Node::bottom_up(depth - 1))),
        }
    }
}

#[used]
static LONG: GcCell<Option<Gc<Node>>> = GcCell::null();
#[used]
static TEMPORARY: GcCell<Option<Gc<Node>>> = GcCell::null();

fn gc_bench_once<const ARRAY: usize>(stretch: usize, long: usize, depths: core::ops::RangeInclusive<usize>) {
    TEMPORARY.set(Some(Node::bottom_up(stretch)));
    TEMPORARY.set(None);
    let root = Node::new(None, None);
    LONG.set(Some(root));
    root.populate(long);
    // Bits of `f64`, for an object's inside changes by atomics; a plain store each.
    let array = Gc::<[AtomicU64; ARRAY]>::zeroed();
    for (index, element) in array[..ARRAY / 2].iter().enumerate() {
        element.store((1.0 / (index + 1) as f64).to_bits(), Ordering::Relaxed);
    }
    for depth in depths.step_by(2) {
        let nodes = |depth: usize| (1 << (depth + 1)) - 1;
        let times = 2 * nodes(stretch) / nodes(depth);
        for _ in 0..times {
            let top = Node::new(None, None);
            TEMPORARY.set(Some(top));
            top.populate(depth);
        }
        for _ in 0..times {
            TEMPORARY.set(Some(Node::bottom_up(depth)));
        }
        TEMPORARY.set(None);
    }
    black_box(array);
    LONG.set(None);
}

/// The classic parameters: 18, 16, 500000, 4 to 16.
pub(super) fn gc_bench(bench: &Bench) {
    match bench.quick {
        true => bench.with_gc("gcbench/small/p1", || gc_bench_once::<50_000>(14, 12, 4..=12)),
        false => bench.with_gc("gcbench/p1", || gc_bench_once::<500_000>(18, 16, 4..=16)),
    }
}

/// 32 bytes, two references.
#[derive(Trace)]
struct MarkNode {
    a: GcCell<Option<Gc<MarkNode>>>,
    b: GcCell<Option<Gc<MarkNode>>>,
    _rest: [u64; 2],
}

fn mark_nodes(count: usize) -> Vec<Gc<MarkNode>> {
    let node = |_| Gc::new(MarkNode { a: GcCell::null(), b: GcCell::null(), _rest: [0; 2] });
    (0..count).map(node).collect()
}

/// A complete binary tree in address order: the children of node i are 2i + 1 and 2i + 2.
fn tree(count: usize) -> Gc<MarkNode> {
    let nodes = mark_nodes(count);
    for (index, node) in nodes.iter().enumerate() {
        if 2 * index + 1 < count {
            node.a.set(Some(nodes[2 * index + 1]));
        }
        if 2 * index + 2 < count {
            node.b.set(Some(nodes[2 * index + 2]));
        }
    }
    nodes[0]
}

/// One random cycle, and a random second edge: every step is a cache miss.
fn random(count: usize) -> Gc<MarkNode> {
    let nodes = mark_nodes(count);
    let mut random = Pcg::new(3, 4);
    let mut order: Vec<u32> = (0..count as u32).collect();
    random.shuffle(&mut order);
    for (index, &at) in order.iter().enumerate() {
        nodes[at as usize].a.set(Some(nodes[order[(index + 1) % count] as usize]));
        nodes[at as usize].b.set(Some(nodes[random.below(count)]));
    }
    nodes[0]
}

/// One list in random order: no parallelism at all.
fn list(count: usize) -> Gc<MarkNode> {
    let root = random(count);
    let mut at = Some(root);
    while let Some(node) = at {
        node.b.set(None);
        if node.a.get().is_some_and(|next| Gc::ptr_eq(next, root)) {
            node.a.set(None);
        }
        at = node.a.get();
    }
    root
}

/// The time of a full collection over a live heap of so many objects.
pub(super) fn mark(bench: &Bench) {
    #[used]
    static ROOT: GcCell<Option<Gc<MarkNode>>> = GcCell::null();
    type Shape = (&'static str, fn(usize) -> Gc<MarkNode>);
    const SHAPES: [Shape; 3] = [("tree", tree), ("random", random), ("list", list)];
    let sizes: &[(&str, usize)] =
        if bench.quick { &[("2e5", 200_000)] } else { &[("1e6", 1_000_000), ("1e7", 10_000_000)] };
    set_gc_percent(None);
    for &(size, count) in sizes {
        for (shape, build) in SHAPES {
            let name = format!("mark/{shape}/{size}/p1");
            // A node, its places in two tables while it is built, and its place among the grey objects.
            if !bench.wants_any(&name, &["", "/bandwidth"]) || !bench.fits(&name, 64 * count) {
                continue;
            }
            ROOT.set(Some(build(count)));
            collect(); // drops the build's scaffolding
            let ns = bench.repeat(7, || time(collect));
            let objects = figure(|stats| stats.heap_objects);
            if objects > count + count / 100 {
                println!("# {name}: {objects} objects were live: a stale word held an earlier graph");
            }
            bench.report(&name, Thousandths::each(ns, count as u64), "ns/object");
            bench.report(&format!("{name}/bandwidth"), Thousandths::ratio(32_000 * count as i128, ns), "MB/s");
            ROOT.set(None);
            collect();
        }
    }
}

/// One figure of the memory's; all of them would be 6 KiB on the stack, which each collection would scan.
#[inline(never)]
fn figure<T>(of: fn(&MemoryStats) -> T) -> T {
    of(&memory_stats())
}

/// `collect` returns after everything is swept. dead: garbage and nothing to mark, so the time is the sweep's and that of an empty cycle,
/// shown as empty. half: every other object is dead; the first cycle marks half and frees half, the next one (again) frees nothing.
pub(super) fn sweep(bench: &Bench) {
    set_gc_percent(None);
    let total = if bench.quick { 32 * MIB } else { 256 * MIB };
    collect();
    if bench.wants("sweep/empty/p1") {
        bench.report_us("sweep/empty/p1", bench.repeat(21, || time(collect)));
    }
    #[used]
    static LAST_32: Last<32> = Last::null();
    #[used]
    static LAST_512: Last<512> = Last::null();
    sweep_size(bench, total, &LAST_32);
    sweep_size(bench, total, &LAST_512);
}

/// The object allocated last.
type Last<const SIZE: usize> = GcCell<Option<Gc<[u8; SIZE]>>>;

fn sweep_size<const SIZE: usize>(bench: &Bench, total: usize, last: &Last<SIZE>) {
    let count = total / SIZE;
    let each = |ns| Thousandths::each(ns, count as u64);

    let name = format!("sweep/dead/{SIZE}/p1");
    if bench.wants_any(&name, &["", "/page"]) && bench.fits(&name, total + total / 4) {
        let ns = bench.repeat(7, || {
            fill(count, 0, last);
            time(collect)
        });
        bench.report(&name, each(ns), "ns/object");
        bench.report(&format!("{name}/page"), Thousandths::each(ns, (total / 8192) as u64), "ns/8KiB-page");
    }
    let name = format!("sweep/half/{SIZE}/p1");
    if bench.wants_any(&name, &["/first", "/again"]) && bench.fits(&name, 2 * total) {
        let mut again = Vec::new();
        let mut keep = Vec::new();
        let ns = bench.repeat(5, || {
            keep = fill(count, 2, last);
            let ns = time(collect);
            again.push(time(collect));
            ns
        });
        bench.report(&format!("{name}/first"), each(ns), "ns/object");
        bench.report(&format!("{name}/again"), each(median(again)), "ns/object");
        drop(keep);
        collect();
    }
}

/// Allocates so many objects and returns every `keep_every`-th; 0: none.
#[inline(never)]
fn fill<const SIZE: usize>(count: usize, keep_every: usize, last: &Last<SIZE>) -> Vec<Gc<[u8; SIZE]>> {
    let mut keep = Vec::with_capacity(count / 2 + 1);
    for index in 0..count {
        let object = Gc::new([0; SIZE]);
        last.set(Some(object));
        if keep_every > 0 && index % keep_every == 0 {
            keep.push(object);
        }
    }
    keep
}

/// Collections with nothing to do: all a request costs, and the pause in it.
pub(super) fn stop(bench: &Bench) {
    let name = "stw/0-spinners";
    let percentiles = [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)];
    let ends = ["/runtime.GC", "/pauses", "/pause-p50", "/pause-p90", "/pause-p99", "/pause-max"];
    if !bench.wants_any(name, &ends) {
        return;
    }
    let mut requests_ns = Vec::with_capacity(2000);
    let mut pauses_ns = vec![figure(|stats| stats.pause_total_ns)];
    pauses_ns.reserve(2000);
    let start_ns = now();
    while requests_ns.len() < 20 || !bench.fixed && now() - start_ns < 10 * bench.target_ns && requests_ns.len() < 2000
    {
        requests_ns.push(time(collect));
        pauses_ns.push(figure(|stats| stats.pause_total_ns));
    }
    let mut pauses_ns: Vec<u64> = pauses_ns.windows(2).map(|totals| totals[1] - totals[0]).collect();
    pauses_ns.sort_unstable();
    bench.report_us(&format!("{name}/runtime.GC"), median(requests_ns));
    bench.report(&format!("{name}/pauses"), Thousandths::each(pauses_ns.len() as u64, 1), "count");
    for (part, percent) in percentiles {
        bench.report_us(&format!("{name}/pause-{part}"), percentile(&pauses_ns, percent));
    }
}
