use runtime::prelude::*;

struct Plain(u64);

fn main() {
    Gc::new(Plain(1));
}
