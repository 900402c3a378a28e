use runtime::prelude::*;
use std::cell::Cell;

fn shared<T: Sync>(_: T) {}

fn main() {
    shared(GcCell::new(Gc::new(Cell::new(1))));
}
