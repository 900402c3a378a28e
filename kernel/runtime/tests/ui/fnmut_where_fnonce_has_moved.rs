use runtime::prelude::*;

fn main() {
    let work = {
        let list = vec![1];
        move || drop(list)
    };
    go(work);
    go(work);
}
