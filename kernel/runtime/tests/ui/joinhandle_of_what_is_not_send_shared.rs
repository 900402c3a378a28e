use runtime::prelude::*;
use std::rc::Rc;

fn shared<T: Sync>(_: T) {}

fn never(thread: JoinHandle<Rc<u8>>) {
    shared(thread);
}

fn main() {}
