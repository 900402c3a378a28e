use runtime::prelude::*;

fn main() {
    let object = Gc::new(vec![1]);
    let list: Vec<i32> = *object;
}
