use runtime::prelude::*;

#[derive(Trace)]
fn work() {}

fn main() {}
