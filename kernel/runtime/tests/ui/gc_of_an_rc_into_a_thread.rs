use runtime::prelude::*;
use std::rc::Rc;

fn main() {
    let shared = Gc::new(Rc::new(1));
    go(move || Rc::clone(&shared));
}
