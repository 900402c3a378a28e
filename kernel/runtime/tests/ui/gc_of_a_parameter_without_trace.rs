use runtime::prelude::*;

fn keep<T: 'static>(value: T) -> Gc<T> {
    Gc::new(value)
}

fn main() {}
