use runtime::prelude::*;

fn main() {
    let object: Gc<dyn Fn() -> u64> = Gc::new((|| 1_u64) as fn() -> u64);
    go(move || object());
}
