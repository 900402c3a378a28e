use runtime::prelude::*;

fn main() {
    let part: &Vec<u8> = {
        let object = Gc::new(vec![1]);
        &*object
    };
    part.len();
}
