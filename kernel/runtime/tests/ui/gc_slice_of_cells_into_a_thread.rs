use core::cell::Cell;
use runtime::prelude::*;

fn main() {
    let cells = Gc::from_fn(3, |_| Cell::new(1));
    go(move || cells[0].get());
}
