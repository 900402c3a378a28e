#[runtime::kernel_test]
fn it_holds(_: u8) {}

fn main() {}
