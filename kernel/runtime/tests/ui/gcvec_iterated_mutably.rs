use runtime::prelude::*;

fn main() {
    let mut objects = GcVec::from([Gc::new(1)]);
    objects.iter_mut().for_each(|object| *object = Gc::new(2));
}
