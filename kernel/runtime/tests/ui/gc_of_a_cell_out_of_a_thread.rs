use runtime::prelude::*;
use std::cell::Cell;

fn main() {
    let _ = go(|| Gc::new(Cell::new(0))).join();
}
