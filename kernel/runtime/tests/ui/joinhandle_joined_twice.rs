use runtime::prelude::*;

fn main() {
    let thread = go(|| 1);
    let _ = thread.join();
    let _ = thread.join();
}
