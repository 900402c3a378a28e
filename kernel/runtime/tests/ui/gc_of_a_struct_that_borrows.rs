use runtime::prelude::*;

#[derive(Trace)]
struct Slice<'a>(&'a [u8]);

fn keep(bytes: &[u8]) -> Gc<Slice<'_>> {
    Gc::new(Slice(bytes))
}

fn main() {}
