use runtime::prelude::*;

fn main() {
    let number = 1;
    let _ = Gc::from_fn(3, |_| &number);
}
