use runtime::prelude::*;

fn main() {
    let mut objects = GcVec::from([Gc::new(1)]);
    for object in &objects {
        objects.push(*object);
    }
}
