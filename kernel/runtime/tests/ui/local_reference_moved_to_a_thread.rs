use runtime::prelude::*;

fn main() {
    let text = String::from("on this stack");
    let part = &text[..2];
    go(move || part.len());
}
