use runtime::switch_off::{Mechanism, disable};

fn main() {
    let _off = disable(Mechanism::StackRoots);
}
