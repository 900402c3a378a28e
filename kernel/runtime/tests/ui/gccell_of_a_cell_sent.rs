use runtime::prelude::*;
use std::cell::Cell;

fn sent<T: Send>(_: T) {}

fn main() {
    sent(GcCell::<Option<Gc<Cell<u8>>>>::null());
}
