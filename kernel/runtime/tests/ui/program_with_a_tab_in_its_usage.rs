use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin\tCOUNT", "spins")]
fn spin(_: &Arguments) -> u8 {
    0
}

fn main() {}
