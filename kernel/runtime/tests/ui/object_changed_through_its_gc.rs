use runtime::prelude::*;

fn main() {
    let mut number = Gc::new(1);
    *number += 1;
}
