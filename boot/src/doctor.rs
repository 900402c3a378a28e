//! `./x doctor`: what building and booting need, one line each, with the fix for what is missing.

use std::fs;
use std::process::Command;

use crate::compile;
use crate::debug;
use crate::machine;

const COMPONENTS: [&str; 5] = ["rust-src", "llvm-tools", "clippy", "rustfmt", "rust-std-x86_64-unknown-none"];

/// Prints the findings; 0 if a kernel can be built and booted, else 1.
pub(crate) fn run() -> u8 {
    let packages = "any ./x run installs it by the system's package manager";
    let missing_parts = missing_components();
    let findings = [
        ("rust", first_line("rustc"), "rustup toolchain install"),
        ("components", missing_parts.is_empty().then(|| COMPONENTS.join(" ")), "rustup toolchain install"),
        ("linker", first_line("cc"), packages),
        ("qemu", first_line("qemu-system-x86_64"), packages),
        ("uefi", machine::uefi_code().map(|path| path.display().to_string()), packages),
    ];
    for (name, found, fix) in &findings {
        match found {
            Some(found) => println!("ok       {name:<11}{found}"),
            None if *name == "components" => println!("MISSING  {name:<11}{}; fix: {fix}", missing_parts.join(" ")),
            None => println!("MISSING  {name:<11}fix: {fix}"),
        }
    }
    match debug::version() {
        Some(version) => println!("ok       {:<11}{version}", "gdb"),
        None => println!("ok       {:<11}none with Python: only ./x debug needs it, and installs it", "gdb"),
    }
    match machine::kvm_refusal() {
        None => println!("ok       kvm        usable"),
        Some(why) => println!("ok       kvm        not usable, {why}: machines run under TCG, which is slower"),
    }
    findings.iter().any(|(_, found, _)| found.is_none()).into()
}

/// What `program --version` says first.
fn first_line(program: &str) -> Option<String> {
    let output = Command::new(program).current_dir(compile::root()).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned())
}

/// What rustup's own list of the toolchain's parts lacks.
fn missing_components() -> Vec<&'static str> {
    let list = compile::sysroot()
        .and_then(|root| fs::read_to_string(root.join("lib/rustlib/components")).map_err(|e| e.to_string()));
    let list = list.unwrap_or_default();
    COMPONENTS.into_iter().filter(|component| !list.lines().any(|line| line.starts_with(component))).collect()
}
