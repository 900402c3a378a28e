//! Disk images: the stripped kernel behind the boot loader's stages, and the kernel's own symbol table beside it.
//!
//! Under BIOS a byte of the image costs a microsecond of every boot, hence the stripping. Images live in images/ of the
//! ELF file's target folder, with the time stamp of the ELF file: another stamp, and they are made again. Each is written
//! under another name first, since several of us may run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bootloader::{BootConfig, DiskImageBuilder};

use crate::compile;
use crate::hidden;
use crate::lines::Lines;
use crate::machine::{Firmware, Machine};
use crate::qemu::Guest;
use crate::symbols::{self, IMAGE_BASE};

/// `./x image`: the disk as a file of the user's; says how it gets onto a stick.
pub(crate) fn write(firmware: Firmware, out: &Path) -> Result<u8, String> {
    let disk = Image::of(compile::bare_metal("kernel")?).disk(firmware)?;
    let out = &Path::new(&std::env::var_os("X_STARTED_IN").unwrap_or_default()).join(out);
    fs::copy(&disk, out).map_err(|error| format!("{}: {error}", out.display()))?;
    println!(
        "{}: to put it on a USB stick, all of which it replaces: sudo dd if={0} of=/dev/STICK bs=1M",
        out.display()
    );
    Ok(0)
}

/// A bare-metal ELF file and what is made from it.
pub(crate) struct Image {
    elf: PathBuf,
    name: String,
}

impl Image {
    pub(crate) fn of(elf: PathBuf) -> Image {
        let name = elf.file_name().expect("an ELF file has a name").to_string_lossy().into_owned();
        Image { elf, name }
    }

    /// Starts `machine` on this image; the kernel finds `files` in fw_cfg, and its symbols.
    pub(crate) fn boot(&self, machine: &Machine, files: &[(&str, &str)]) -> Result<Guest, String> {
        self.boot_with(machine, files, |_| {})
    }

    /// The same with more options of QEMU's.
    pub(crate) fn boot_with(
        &self,
        machine: &Machine,
        files: &[(&str, &str)],
        more: impl FnOnce(&mut Command),
    ) -> Result<Guest, String> {
        Guest::start(machine, &self.disk(machine.firmware)?, self.symbols()?, Lines::of(&self.elf), files, more)
    }

    /// The file with symbols and debug information.
    pub(crate) fn elf(&self) -> &Path {
        &self.elf
    }

    /// The address of its first instruction, when it runs on a machine.
    pub(crate) fn entry(&self) -> Result<u64, String> {
        use object::Object;
        let bytes = read(&self.elf)?;
        let file = object::File::parse(&*bytes).map_err(|error| format!("{}: {error}", self.elf.display()))?;
        Ok(IMAGE_BASE + file.entry())
    }

    /// Refuses it if the kernel's types hide a reference from the collector.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.made("checked", |_| hidden::check(&read(&self.elf)?)).map(drop)
    }

    /// The disk to boot from.
    pub(crate) fn disk(&self, firmware: Firmware) -> Result<PathBuf, String> {
        self.check()?;
        let extension = if firmware == Firmware::Uefi { "uefi" } else { "bios" };
        self.made(extension, |disk| {
            let mut builder = DiskImageBuilder::new(self.stripped()?);
            let mut config = BootConfig::default();
            config.frame_buffer_logging = false;
            config.serial_logging = false;
            builder.set_boot_config(&config);
            let made = match firmware {
                Firmware::Bios => builder.create_bios_image(disk),
                Firmware::Uefi => builder.create_uefi_image(disk),
            };
            made.map_err(|error| format!("the disk image cannot be made: {error:#}"))
        })
    }

    /// The symbol table that the kernel reads for its backtraces.
    pub(crate) fn symbols(&self) -> Result<Vec<u8>, String> {
        let path = self.made("symbols", |path| {
            let table = symbols::table(&read(&self.elf)?)?;
            fs::write(path, table).map_err(|error| format!("{}: {error}", path.display()))
        })?;
        read(&path)
    }

    /// The text lines of a link section: one entry each, from macros in the kernel's source.
    pub(crate) fn lines(&self, section: &str) -> Result<Vec<String>, String> {
        use object::{Object, ObjectSection};
        let bytes = read(&self.elf)?;
        let file = object::File::parse(&*bytes).map_err(|error| format!("{}: {error}", self.elf.display()))?;
        let data = file.section_by_name(section).and_then(|section| section.data().ok());
        let text = String::from_utf8_lossy(data.ok_or(format!("{} has no section {section}", self.elf.display()))?);
        Ok(text.split(['\n', '\0']).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    fn stripped(&self) -> Result<PathBuf, String> {
        self.made("stripped", |output| {
            let mut strip = Command::new(compile::llvm_tool("llvm-objcopy")?);
            let status = strip.arg("--strip-all").arg(&self.elf).arg(output).status();
            let stripped = status.is_ok_and(|status| status.success());
            stripped.then_some(()).ok_or(format!("{} cannot be stripped", self.elf.display()))
        })
    }

    /// The file made from the ELF file: the one that is there if it is of this ELF file, else what `make` writes.
    fn made(&self, extension: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
        let target = self.elf.ancestors().nth(3).expect("target/x86_64-unknown-none/release/NAME");
        let folder = target.join("images");
        let path = folder.join(format!("{}.{extension}", self.name));
        let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let stamp = modified(&self.elf).map_err(failed)?;
        if modified(&path).ok() != Some(stamp) {
            fs::create_dir_all(&folder).map_err(failed)?;
            let draft = tempfile::NamedTempFile::new_in(&folder).map_err(failed)?;
            make(draft.path())?;
            let file = fs::File::options().append(true).open(draft.path()).map_err(failed)?;
            file.set_modified(stamp).map_err(failed)?;
            draft.persist(&path).map_err(|error| failed(error.error))?;
        }
        Ok(path)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
