use runtime::prelude::*;

struct Plain(u64);

#[derive(Trace)]
struct Pair<T>(T, T);

fn main() {
    Gc::new(Pair(Plain(1), Plain(2)));
}
