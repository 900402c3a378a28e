use runtime::prelude::*;

#[derive(Trace)]
enum Shape {
    Dot,
    Line(Gc<u8>),
}

fn main() {}
