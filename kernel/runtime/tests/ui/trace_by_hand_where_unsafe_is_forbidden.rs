#![forbid(unsafe_code)]
use runtime::prelude::*;

struct Liar(Box<u8>);

unsafe impl Trace for Liar {
    const SCAN: Scan = Scan::Noscan;
}

fn main() {}
