use runtime::prelude::*;

unsafe impl Trace for std::time::Duration {
    const SCAN: Scan = Scan::Noscan;
}

fn main() {}
