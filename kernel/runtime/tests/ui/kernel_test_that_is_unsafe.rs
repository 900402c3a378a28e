#[runtime::kernel_test]
unsafe fn it_holds() {}

fn main() {}
