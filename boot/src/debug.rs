//! `./x debug`: gdb on a machine that stands at the kernel's entry, with commands for green threads and spans.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::compile;
use crate::image::Image;
use crate::machine::{Machine, escaped};
use crate::qemu::Guest;
use crate::run::{self, print};
use crate::symbols::IMAGE_BASE;

const COMMANDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gdb/tricolor-gdb.py");

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    machine: Machine,
    /// What to run, of those that ./x run --list names
    program: Option<String>,
    /// What it is given
    arguments: Vec<String>,
}

/// Hands the terminal to gdb until it ends; the machine ends with it.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    let image = Image::of(compile::bare_metal("kernel")?);
    let Some(line) = run::command_line(options.program, options.arguments) else { return Ok(2) };
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for gdb's socket: {error}"))?;
    let socket = folder.path().join("gdb");
    let mut guest = stopped(&image, &options.machine, &line, &socket)?;
    eprintln!(
        "x: info goroutines, goroutine N bt, info spans, heapobj ADDRESS; continue lets the machine run, quit ends it"
    );
    // SAFETY: only says that Ctrl-C is not for us; it is gdb's, which stops the machine by it.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let gdb = gdb(&image, &socket).spawn();
    let mut gdb = gdb.map_err(|error| format!("gdb does not start: {error}"))?;
    let mut is_over = false;
    loop {
        match gdb.try_wait() {
            Ok(Some(status)) => return Ok(status.code().map_or(1, |code| code as u8)),
            Ok(None) if is_over => thread::sleep(Duration::from_millis(50)),
            Ok(None) => is_over = guest.listen(Duration::from_millis(50), print).is_some(),
            Err(error) => return Err(format!("gdb cannot be waited for: {error}")),
        }
    }
}

/// A machine that waits at its first instruction for a debugger to come through `socket`. Ctrl-C does not reach it.
pub(crate) fn stopped(image: &Image, machine: &Machine, line: &str, socket: &Path) -> Result<Guest, String> {
    image.boot_with(machine, &[("cmdline", line)], |qemu| {
        let socket = format!("socket,id=gdb,path={},server=on,wait=off", escaped(socket));
        qemu.args(["-S", "-chardev", &socket, "-gdb", "chardev:gdb"]).process_group(0);
    })
}

/// gdb at the kernel's entry. The ELF file is linked at 0, the image runs at [`IMAGE_BASE`]; a hardware breakpoint waits
/// there, since the loader has yet to write the instruction.
pub(crate) fn gdb(image: &Image, socket: &Path) -> Command {
    let mut gdb = Command::new("gdb");
    gdb.current_dir(compile::root()).arg("-q");
    for command in [
        "set confirm off".to_owned(),
        format!("add-symbol-file {} -o {IMAGE_BASE:#x}", image.elf().display()),
        format!("source {COMMANDS}"),
        format!("target remote {}", socket.display()),
        "thbreak kernel::kernel::boot".to_owned(),
        "continue".to_owned(),
        "set confirm on".to_owned(),
    ] {
        gdb.args(["-ex", &command]);
    }
    gdb
}

/// gdb's name and version, if there is one, with Python.
pub(crate) fn version() -> Option<String> {
    let mut gdb = Command::new("gdb");
    let output = gdb.args(["--batch", "-nx", "-ex", "python print(gdb.VERSION)"]).stdin(Stdio::null()).output();
    let version = String::from_utf8_lossy(&output.ok()?.stdout).trim().to_owned();
    (!version.is_empty()).then(|| format!("GNU gdb {version}"))
}
