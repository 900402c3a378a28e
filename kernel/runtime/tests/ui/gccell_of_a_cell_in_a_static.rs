use runtime::prelude::*;
use std::cell::Cell;

static SHARED: GcCell<Option<Gc<Cell<u8>>>> = GcCell::null();

fn main() {
    SHARED.get();
}
