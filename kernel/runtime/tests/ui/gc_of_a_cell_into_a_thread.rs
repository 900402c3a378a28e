use runtime::prelude::*;
use std::cell::Cell;

fn main() {
    let counter = Gc::new(Cell::new(0));
    go(move || counter.set(1));
}
