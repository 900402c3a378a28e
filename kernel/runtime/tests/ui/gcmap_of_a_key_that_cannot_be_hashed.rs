use runtime::prelude::*;

fn main() {
    let mut map = GcMap::new();
    map.insert(1.5, 2);
}
