use runtime::prelude::*;

fn main() {
    let _: Result<&'static str, _> = go(|| {
        let text = String::from("on that stack");
        text.as_str()
    })
    .join();
}
