use runtime::prelude::*;
use std::rc::Rc;

fn main() {
    go(|| Rc::new(1));
}
