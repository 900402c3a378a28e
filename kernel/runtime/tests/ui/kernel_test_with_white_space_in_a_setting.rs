#[runtime::kernel_test(cmdline = "GOGC=off GODEBUG=gctrace=1")]
fn it_holds() {}

fn main() {}
