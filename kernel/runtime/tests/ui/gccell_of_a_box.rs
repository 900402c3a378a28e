use runtime::prelude::*;

#[derive(Trace)]
struct Owner(GcCell<Box<u8>>);

fn main() {}
