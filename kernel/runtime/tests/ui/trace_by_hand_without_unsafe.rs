use runtime::prelude::*;

struct Liar(Box<u8>);

impl Trace for Liar {
    const SCAN: Scan = Scan::Noscan;
}

fn main() {}
