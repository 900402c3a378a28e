use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
fn spin(_: &Arguments) {}

fn main() {}
