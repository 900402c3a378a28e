use runtime::prelude::*;
use std::cell::Cell;

fn main() {
    let counter: &'static Gc<Cell<u8>> = Box::leak(Box::new(Gc::new(Cell::new(0))));
    go(move || counter.set(1));
}
