use runtime::prelude::*;

#[derive(Trace)]
struct Twice(Box<u8>);

unsafe impl Trace for Twice {
    const SCAN: Scan = Scan::Noscan;
}

fn main() {}
