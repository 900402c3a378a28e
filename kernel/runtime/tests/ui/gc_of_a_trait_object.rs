use runtime::prelude::*;

fn main() {
    let _: Option<Gc<dyn Fn()>> = None;
}
