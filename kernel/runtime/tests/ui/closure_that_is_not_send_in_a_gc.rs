use runtime::prelude::*;
use std::rc::Rc;

#[derive(Trace)]
struct Callback(Box<dyn Fn() -> usize>);

fn main() {
    let count = Rc::new(1);
    let callback = Gc::new(Callback(Box::new(move || Rc::strong_count(&count))));
    go(move || (callback.0)());
}
