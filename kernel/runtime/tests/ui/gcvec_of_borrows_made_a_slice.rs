use runtime::prelude::*;

fn main() {
    let number = 1;
    let _: Gc<[&u64]> = GcVec::from([&number]).into();
}
