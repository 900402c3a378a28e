//! `./x miri [FILTER]`: the runtime's rooms that need no machine, under Miri, which notices what is undefined though it happens to work.

use std::process::Command;

use crate::compile;

/// The rooms with unsafe code of their own. The others are safe code, or assembly; what walks every address of every class takes Miri
/// hours, and is left to the ordinary tests. A list, for its opposite would be longer: 13 tests to ignore, and as many to shorten.
const ROOMS: [&str; 13] = [
    "gc::cell",
    "gc::trace",
    "heap::fixed_pool",
    "heap::free",
    "heap::marks",
    "heap::pages::tests",
    "heap::pattern",
    "heap::pointer_map",
    "heap::table",
    "heap::tests::any_trace",
    "heap::tests::a_slot_freed",
    "heap::tests::large_objects",
    "heap::window",
];

/// Addresses are numbers in a span's record and become pointers again: that is what `with_exposed_provenance` is for, and permissive.
/// The seeds of random tests come from the host's clock. Records live for ever: a test leaves them behind.
const FLAGS: &str = "-Zmiri-permissive-provenance -Zmiri-disable-isolation -Zmiri-ignore-leaks";

/// Runs, and returns the status to end with.
pub(crate) fn run(filter: Option<String>) -> Result<u8, String> {
    if !compile::sysroot()?.join("bin/cargo-miri").exists() {
        eprintln!("x: rustup component add miri");
        let rustup = Command::new("rustup").current_dir(compile::root()).args(["component", "add", "miri"]).status();
        if !rustup.is_ok_and(|status| status.success()) {
            return Err("rustup could not install miri".into());
        }
    }
    let mut cargo = compile::cargo();
    cargo.args(["miri", "test", "-p", "runtime", "--lib", "--target-dir", "target/miri", "--"]);
    match filter {
        Some(filter) => cargo.arg(filter),
        None => cargo.args(ROOMS),
    };
    let status = cargo.env("MIRIFLAGS", FLAGS).status().map_err(|error| format!("cargo does not start: {error}"))?;
    Ok(u8::from(!status.success()))
}
