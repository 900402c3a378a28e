use runtime::prelude::*;

fn main() {
    let _ = GcCell::new(1_u64);
}
