use runtime::prelude::*;

fn main() {
    let object = Gc::new(1);
    let _ = GcCell::new((object, object));
}
