use runtime::prelude::*;

fn main() {
    let cell = GcCell::<Option<Gc<u8>>>::null();
    let other = cell;
    cell.get();
    other.get();
}
