//! The Linux guest that Go's program runs in as process 1: Debian's kernel, and an archive with nothing but the program.
//!
//! It is Go's best case: no mitigations, and the TSC for a clock, for Go's scheduler reads the time at every switch, and what Linux takes
//! without a word (the HPET) costs over 2 us under TCG.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::CPU;
use super::go;
use super::side::{Side, answer, spawn};
use crate::machine::Machine;
use crate::run;

const PARAMETERS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off tsc=reliable";

/// The program as process 1 of a guest on `machine`.
pub(super) fn guest(machine: Machine, program: &Path) -> Result<Side, String> {
    let kernel = kernel()?;
    let program = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let start = move |arguments: &[String]| {
        let mut archive = Archive::default();
        archive.add("dev", 0o040755, (0, 0), b"");
        archive.add("dev/console", 0o020600, (5, 1), b"");
        archive.add("arguments", 0o100644, (0, 0), arguments.join("\n").as_bytes());
        archive.add("init", 0o100755, (0, 0), &program);
        let unwritten = |error| format!("the guest's archive cannot be written: {error}");
        let folder = tempfile::tempdir().map_err(unwritten)?;
        let root = folder.path().join("root.cpio");
        fs::write(&root, archive.end()).map_err(unwritten)?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(machine.options()?).args(CPU).args(["-display", "none", "-no-reboot", "-serial", "stdio"]);
        // What Linux does not know becomes the environment of process 1: GOGC and its like reach both sides.
        let settings = run::command_line(None, Vec::new()).unwrap_or_default();
        qemu.arg("-kernel")
            .arg(&kernel)
            .arg("-initrd")
            .arg(root)
            .args(["-append", &format!("{PARAMETERS} {settings}")]);
        spawn(&qemu, folder)
    };
    Ok(Side::new("Go", Box::new(start)))
}

/// Debian's kernel for virtual machines, downloaded and unpacked but not installed: no hooks, no boot loader.
fn kernel() -> Result<PathBuf, String> {
    let folder = go::folder()?.join("linux");
    let unpacked = || {
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        files.map(|file| file.path()).find(|path| path.to_string_lossy().contains("/vmlinuz-"))
    };
    if unpacked().is_none() {
        download(&folder)
            .map_err(|why| format!("no Linux to run Go in ({why}): Debian's apt-get and dpkg-deb bring it"))?;
    }
    unpacked().ok_or("there is no vmlinuz in the package of Debian's kernel".into())
}

fn download(folder: &Path) -> Result<(), String> {
    let draft = tempfile::tempdir_in(go::folder()?).map_err(|error| error.to_string())?;
    let depends = || answer(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let fetch = |depends: String| {
        let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let package = package.ok_or("apt-cache knows no linux-image-cloud-amd64")?;
        eprintln!("x: apt-get download {package}");
        answer(Command::new("apt-get").args(["download", "-q", package]).current_dir(draft.path()))
    };
    // The lists of packages may be old, or not there at all.
    if depends().and_then(fetch).is_err() {
        let sudo = if answer(Command::new("id").arg("-u"))?.trim() == "0" { "env" } else { "sudo" };
        eprintln!("x: {sudo} apt-get update -q");
        answer(Command::new(sudo).args(["apt-get", "update", "-q"]))?;
        fetch(depends()?)?;
    }
    let mut files = fs::read_dir(draft.path()).into_iter().flatten().flatten().map(|file| file.path());
    let package = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.ok_or("apt-get left no package")?;
    answer(Command::new("dpkg-deb").arg("-x").arg(package).arg(draft.path()))?;
    fs::rename(draft.path().join("boot"), folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// A cpio archive in the "newc" form, which Linux unpacks at its start.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.files += 1;
        let sizes = (content.len() as u32, name.len() as u32 + 1);
        // Number, mode, owner, group, links, time, size, device (2), device that it is (2), length of the name, sum.
        let fields = [self.files, mode, 0, 0, 1, 0, sizes.0, 0, 0, major, minor, sizes.1, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn the_archive_has_the_form_that_cpio_writes() {
        let mut archive = Archive::default();
        archive.add("dev/console", 0o020600, (5, 1), b"");
        archive.add("init", 0o100755, (0, 0), b"hello");
        let numbers = |fields: [u32; 13]| fields.map(|field| format!("{field:08X}")).concat().to_lowercase();
        let console = numbers([1, 0o020600, 0, 0, 1, 0, 0, 0, 0, 5, 1, 12, 0]);
        let init = numbers([2, 0o100755, 0, 0, 1, 0, 5, 0, 0, 0, 0, 5, 0]);
        let trailer = numbers([3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0]);
        let expected =
            format!("070701{console}dev/console\0\0\0070701{init}init\0\0hello\0\0\0070701{trailer}TRAILER!!!\0\0\0\0");
        assert_eq!(String::from_utf8(archive.end()), Ok(expected));
    }
}
