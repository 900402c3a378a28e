use runtime::prelude::*;
use runtime::program::Arguments;

#[program]
fn spin(_: &Arguments) -> u8 {
    0
}

fn main() {}
