use runtime::prelude::*;

#[derive(Trace)]
struct Tail {
    first: Gc<u8>,
    rest: [Gc<u8>],
}

fn main() {}
