use runtime::prelude::*;

static EMPTY: GcCell<Gc<u8>> = GcCell::null();

fn main() {}
