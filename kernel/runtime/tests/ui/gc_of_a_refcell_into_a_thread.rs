use runtime::prelude::*;
use std::cell::RefCell;

fn main() {
    let list = Gc::new(RefCell::new(vec![1]));
    go(move || list.borrow_mut().push(2));
}
