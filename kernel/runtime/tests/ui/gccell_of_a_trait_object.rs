use runtime::prelude::*;

fn main() {
    let _: Option<GcCell<Option<Gc<dyn Fn()>>>> = None;
}
