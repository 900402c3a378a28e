use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
unsafe fn spin(_: &Arguments) -> u8 {
    0
}

fn main() {}
