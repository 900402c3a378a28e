use runtime::prelude::*;
use runtime::program::Arguments;

#[program("spin", "spins")]
struct Spin;

fn main() {}
