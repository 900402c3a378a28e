use runtime::prelude::*;

trait Area {}

fn main() {
    let _: Gc<dyn Area> = Gc::new(1_u64);
}
