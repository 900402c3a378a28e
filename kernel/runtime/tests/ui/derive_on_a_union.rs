use runtime::prelude::*;

#[derive(Trace)]
union Either {
    number: u64,
    object: Gc<u64>,
}

fn main() {}
