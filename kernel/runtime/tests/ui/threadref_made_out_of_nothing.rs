use runtime::prelude::*;

fn main() {
    ThreadRef { id: 7 }.ready();
}
