use runtime::prelude::*;

fn main() {
    let _ = JoinHandle::<u8> { id: 7 };
}
