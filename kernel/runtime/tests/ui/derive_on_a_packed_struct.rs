use runtime::prelude::*;

#[derive(Trace)]
#[repr(C, packed)]
struct Hidden(u8, Box<u64>);

fn main() {}
