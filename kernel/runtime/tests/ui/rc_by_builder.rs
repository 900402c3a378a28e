use runtime::prelude::*;
use std::rc::Rc;

fn main() {
    let count = Rc::new(1);
    let _ = Builder::new().stack_limit(1 << 20).spawn(move || *count);
}
