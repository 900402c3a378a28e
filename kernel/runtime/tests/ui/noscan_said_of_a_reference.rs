#![forbid(unsafe_code)]
use runtime::Gc;

struct Hidden(Gc<u64>);

unsafe impl runtime::Noscan for Hidden {}

fn main() {}
