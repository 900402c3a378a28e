use runtime::prelude::*;
use std::rc::Rc;

fn sent<T: Send>(_: T) {}

fn never(thread: JoinHandle<Rc<u8>>) {
    sent(thread);
}

fn main() {}
