use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
fn spin<T: Default>(_: &Arguments) -> u8 {
    0
}

fn main() {}
