use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
fn spin() -> u8 {
    0
}

fn main() {}
