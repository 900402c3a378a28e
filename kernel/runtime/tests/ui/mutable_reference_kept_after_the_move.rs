use runtime::prelude::*;

fn main() {
    let mut list = vec![1];
    go(move || list.push(2));
    list.push(3);
}
