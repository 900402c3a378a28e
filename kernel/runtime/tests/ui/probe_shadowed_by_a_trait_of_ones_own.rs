use runtime::prelude::*;
use runtime::trace::Probe;

struct Plain(Box<u8>);

trait Liar {
    const SCAN: Scan = Scan::Noscan;
}

impl<T> Liar for Probe<T> {}

#[derive(Trace)]
struct Owner(Plain);

fn main() {}
