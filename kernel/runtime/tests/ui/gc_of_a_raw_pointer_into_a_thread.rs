use runtime::prelude::*;

fn main() {
    let pointer = Gc::new(core::ptr::null::<u8>());
    go(move || pointer.is_null());
}
