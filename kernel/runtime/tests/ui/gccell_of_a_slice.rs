use runtime::prelude::*;

fn main() {
    let numbers: Gc<[u64]> = Gc::new([1, 2, 3]);
    let _ = GcCell::new(numbers);
}
