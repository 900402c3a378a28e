#[runtime::kernel_test]
async fn it_holds() {}

fn main() {}
