use runtime::prelude::*;
use std::cell::Cell;
use std::sync::OnceLock;

static SHARED: OnceLock<Gc<Cell<u8>>> = OnceLock::new();

fn main() {
    SHARED.get();
}
