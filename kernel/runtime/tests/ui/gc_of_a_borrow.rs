use runtime::prelude::*;

fn main() {
    let number = 1;
    let _object = Gc::new(&number);
}
