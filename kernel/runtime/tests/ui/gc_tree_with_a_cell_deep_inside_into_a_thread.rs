use runtime::prelude::*;
use std::cell::Cell;

#[derive(Trace)]
struct Node {
    next: Option<Gc<Node>>,
    seen: Cell<bool>,
}

fn main() {
    let node = Gc::new(Node { next: None, seen: Cell::new(false) });
    let list = vec![(1, Some(node))];
    go(move || list.len());
}
