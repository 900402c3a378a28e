use runtime::prelude::*;

fn main() {
    let _: Option<Gc<[u8]>> = None;
}
