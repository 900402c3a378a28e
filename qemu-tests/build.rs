//! Hands the linker our script: the machine's, or a process's.

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    println!("cargo:rerun-if-changed={root}/linker.ld");
    println!("cargo:rerun-if-changed={root}/kernel/hosted/hosted.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo:rustc-link-arg-bins=-T{root}/linker.ld");
    }
    if std::env::var_os("CARGO_CFG_HOSTED").is_some() {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{root}/kernel/hosted/hosted.ld");
    }
}
