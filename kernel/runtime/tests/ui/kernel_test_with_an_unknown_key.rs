#[runtime::kernel_test(statos = 2)]
fn it_holds() {}

fn main() {}
