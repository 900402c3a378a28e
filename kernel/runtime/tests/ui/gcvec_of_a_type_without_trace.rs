use runtime::prelude::*;

struct Stranger(u64);

fn main() {
    let mut strangers = GcVec::new();
    strangers.push(Stranger(1));
}
