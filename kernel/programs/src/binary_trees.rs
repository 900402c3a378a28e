//! The Benchmarks Game's binary-trees: perfect trees, many short-lived and one long-lived. Its output is that program's, to the byte.

use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

#[derive(Trace)]
struct Node {
    left: Option<Gc<Node>>,
    right: Option<Gc<Node>>,
}

const MIN_DEPTH: u64 = 4;

#[program("binary-trees DEPTH", "allocates perfect binary trees, keeps one, drops the others")]
fn binary_trees(arguments: &Arguments) -> u8 {
    let Some([depth]) = arguments.numbers([(0, 32)]) else { return MISUSED };
    let max_depth = depth.max(MIN_DEPTH + 2);

    let stretch_depth = max_depth + 1;
    println!("stretch tree of depth {stretch_depth}\t check: {}", count(bottom_up(stretch_depth)));

    let long_lived = bottom_up(max_depth);

    for depth in (MIN_DEPTH..=max_depth).step_by(2) {
        let trees = 1u64 << (max_depth - depth + MIN_DEPTH);
        let check: u64 = (0..trees).map(|_| count(bottom_up(depth))).sum();
        println!("{trees}\t trees of depth {depth}\t check: {check}");
    }

    println!("long lived tree of depth {max_depth}\t check: {}", count(long_lived));
    0
}

fn bottom_up(depth: u64) -> Gc<Node> {
    let child = || Some(bottom_up(depth - 1));
    Gc::new(if depth == 0 { Node { left: None, right: None } } else { Node { left: child(), right: child() } })
}

fn count(tree: Gc<Node>) -> u64 {
    1 + tree.left.map_or(0, count) + tree.right.map_or(0, count)
}
