#![feature(macro_attr)]
use runtime::prelude::*;

macro_rules! packed {
    attr() ($($item:tt)*) => {
        #[repr(C, packed)]
        $($item)*
    };
}

#[derive(Trace)]
#[packed]
struct Owner(u8, Box<u64>);

fn main() {}
