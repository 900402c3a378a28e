//! Hands the linker our script, for a process that is the machine.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hosted.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var_os("CARGO_CFG_HOSTED").is_some() {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    }
}
