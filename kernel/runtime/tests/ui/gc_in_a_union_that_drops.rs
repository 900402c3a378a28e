use runtime::prelude::*;

union Either {
    number: u64,
    list: Vec<Gc<u64>>,
}

fn main() {}
