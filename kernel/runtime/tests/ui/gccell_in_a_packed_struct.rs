use runtime::prelude::*;

#[repr(C, packed(4))]
struct Hidden(u32, GcCell<Option<Gc<u64>>>);

fn main() {}
