use runtime::prelude::*;

fn main() {
    let number = 1;
    go(|| number + 1);
}
