//! The kernel as a process: the same output as a machine's, on one pipe with the same marks.

use std::fs;
use std::process::Command;

use crate::image::Image;
use crate::lines::Lines;
use crate::qemu::{Guest, Host};

/// Starts the process with so much memory; it finds its symbols in a file.
pub(crate) fn start(image: &Image, mem: &str, command_line: &str) -> Result<Guest, String> {
    image.check()?;
    let no_folder = |error| format!("no folder for the process's files: {error}");
    let folder = tempfile::tempdir().map_err(no_folder)?;
    let (path, symbols) = (folder.path().join("symbols"), image.symbols()?);
    fs::write(&path, &symbols).map_err(no_folder)?;
    let mut process = Command::new(image.elf());
    process.args(command_line.split_whitespace());
    process.env("TRICOLOR_MEMORY", mem).env("TRICOLOR_SYMBOLS", &path).env("TRICOLOR_CONSOLE", "1");
    Guest::spawn(Host::Linux, process, folder, symbols, Lines::of(image.elf()))
}
