//! Cargo and the toolchain: compiles the bare-metal and the hosted binaries, finds the tools beside rustc.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("boot/ lies in the workspace's root")
}

/// Cargo, in the workspace's root: the one that started us, if one did.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Compiles a bare-metal binary of the workspace, optimised; returns its ELF file, with symbols and debug information.
pub(crate) fn bare_metal(package: &str) -> Result<PathBuf, String> {
    build(package, &root().join("target"), cargo())
}

/// Compiles a binary of the workspace as a process of Linux; returns its ELF file. The flags are those of .cargo/hosted.toml.
pub(crate) fn hosted(package: &str) -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("a hosted kernel is a process of Linux on x86_64: not here".into());
    }
    let mut cargo = cargo();
    cargo.args(["--config", ".cargo/hosted.toml", "build", "-p", package, "--release"]);
    finish(package, root().join("target/hosted/x86_64-unknown-linux-gnu/release").join(package), cargo)
}

/// [`bare_metal`] as it would be without `-disable-lsr`, in a target folder of its own.
pub(crate) fn bare_metal_with_lsr(package: &str) -> Result<PathBuf, String> {
    let mut question = cargo();
    question.args(["-Zunstable-options", "config", "get", "target.x86_64-unknown-none.rustflags"]);
    let answer = question.args(["--format", "json-value"]).stderr(Stdio::null()).output();
    let answer = answer.map_err(|error| format!("cargo does not start: {error}"))?.stdout;
    let flags: Vec<String> =
        serde_json::from_slice(&answer).map_err(|error| format!("no rustflags in .cargo/config.toml: {error}"))?;
    let flags: Vec<String> = flags.into_iter().filter(|flag| !flag.contains("disable-lsr")).collect();
    let mut cargo = cargo();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    build(package, &root().join("target/lsr"), cargo)
}

fn build(package: &str, folder: &Path, mut cargo: Command) -> Result<PathBuf, String> {
    let elf = folder.join("x86_64-unknown-none/release").join(package);
    cargo.args(["build", "-p", package, "--release", "--target", "x86_64-unknown-none", "-Zbuild-std=core,alloc"]);
    cargo.arg("--target-dir").arg(folder);
    finish(package, elf, cargo)
}

fn finish(package: &str, elf: PathBuf, mut cargo: Command) -> Result<PathBuf, String> {
    if elf.exists() {
        cargo.arg("--quiet"); // the first build takes long enough to be watched
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(elf),
        Ok(status) => Err(format!("{package} does not compile: cargo ended with {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// The folder of the toolchain that the workspace asks for.
pub(crate) fn sysroot() -> Result<PathBuf, String> {
    let output = Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("rustc does not start: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// A tool of the component llvm-tools.
pub(crate) fn llvm_tool(name: &str) -> Result<PathBuf, String> {
    let targets = sysroot()?.join("lib/rustlib");
    let folders = fs::read_dir(&targets).into_iter().flatten().flatten();
    let mut tools = folders.map(|folder| folder.path().join("bin").join(name));
    tools
        .find(|tool| tool.exists())
        .ok_or(format!("no {name} in {}: `rustup toolchain install` brings it", targets.display()))
}
