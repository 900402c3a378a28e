use runtime::prelude::*;
use std::cell::Cell;

fn sent<T: Send>(_: T) {}

fn main() {
    sent(Cell::new(1));
    sent(Gc::new(Cell::new(1)));
}
