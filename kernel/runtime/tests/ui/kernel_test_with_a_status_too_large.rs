#[runtime::kernel_test(status = 256)]
fn it_holds() {}

fn main() {}
