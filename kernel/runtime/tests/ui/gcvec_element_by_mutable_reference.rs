use runtime::prelude::*;

fn main() {
    let mut objects = GcVec::from([Gc::new(1)]);
    objects[0] = Gc::new(2);
}
