extern crate alloc;
use alloc::rc::Rc;
use runtime::prelude::*;

fn main() {
    let numbers = GcVec::from([Rc::new(1)]);
    go(move || numbers.len());
}
