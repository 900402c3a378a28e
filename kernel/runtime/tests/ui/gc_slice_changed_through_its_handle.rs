use runtime::prelude::*;

fn main() {
    let numbers = Gc::from_fn(3, |index| index);
    numbers[0] = 1;
}
