use runtime::prelude::*;

#[derive(Trace)]
#[cfg_attr(all(), repr(C), repr(packed(2)))]
struct Hidden {
    tag: u16,
    owner: Box<u64>,
}

fn main() {}
