use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
fn spin(arguments: &'static Arguments<'static>) -> u8 {
    go(|| arguments.numbers([]).is_some());
    0
}

fn main() {}
