use runtime::prelude::*;

fn main() {
    let cell = GcCell::new(Gc::new(1));
    let _: &Gc<i32> = &cell.0;
}
