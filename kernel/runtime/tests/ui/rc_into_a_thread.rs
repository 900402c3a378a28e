use runtime::prelude::*;
extern crate alloc;

fn main() {
    let count = alloc::rc::Rc::new(1);
    go(move || *count);
}
