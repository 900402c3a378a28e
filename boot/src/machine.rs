//! The machine that QEMU is to build: firmware, accelerator, CPUs, memory.

use std::path::{Path, PathBuf};
use std::{fs, io};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

impl Firmware {
    /// In MiB. With less the boot loader, or the firmware itself, hangs and says nothing.
    fn least_memory(self) -> u64 {
        match self {
            Firmware::Bios => 32,
            Firmware::Uefi => 64,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Accel {
    Auto,
    Tcg,
    /// TCG with the number of executed instructions as its clock: 1 ns each, for all of the machine's timers
    Icount,
    Kvm,
}

/// The machine to build.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Machine {
    /// How it starts
    #[arg(long, value_enum, default_value = "bios")]
    pub(crate) firmware: Firmware,
    /// What executes its code; auto takes KVM where the CPU and this user may use it
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) accel: Accel,
    /// CPUs of the machine
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) cpus: u8,
    /// Memory of the machine: a number with M or G behind it
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = memory_size)]
    pub(crate) mem: String,
}

impl Machine {
    /// QEMU's options for it.
    pub(crate) fn options(&self) -> Result<Vec<String>, String> {
        let least = self.firmware.least_memory();
        if mebibytes(&self.mem).is_none_or(|memory| memory < least) {
            return Err(format!(
                "with {} of memory no kernel starts under this firmware: {least}M is the least",
                self.mem
            ));
        }
        let mut options = vec!["-machine".into(), "pc".into(), "-cpu".into(), "max".into(), "-nodefaults".into()];
        options.extend(["-smp".into(), self.cpus.to_string(), "-m".into(), self.mem.clone()]);
        // QEMU takes the first accelerator that works.
        if self.accel == Accel::Kvm || self.accel == Accel::Auto && kvm_refusal().is_none() {
            options.extend(["-accel", "kvm"].map(str::to_owned));
        }
        if self.accel == Accel::Icount {
            options.extend(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"].map(str::to_owned));
        } else if self.accel != Accel::Kvm {
            // Only a host with x86's memory order may run the guest's CPUs in parallel.
            let threads = if cfg!(target_arch = "x86_64") { "multi" } else { "single" };
            options.extend(["-accel".into(), format!("tcg,thread={threads}")]);
        }
        if self.firmware == Firmware::Uefi {
            let code = uefi_code().ok_or("no UEFI firmware (OVMF) found: ./x doctor says how to get it")?;
            options.extend(["-drive".into(), format!("if=pflash,format=raw,readonly=on,file={}", escaped(&code))]);
        }
        Ok(options)
    }
}

/// In QEMU's options a comma is written twice.
pub(crate) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn memory_size(text: &str) -> Result<String, String> {
    match mebibytes(text) {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("a size is a number with M or G behind it, as 64M or 4G".into()),
    }
}

fn mebibytes(text: &str) -> Option<u64> {
    let number: u32 = text.strip_suffix(['M', 'G'])?.parse().ok()?;
    Some(u64::from(number) << if text.ends_with('G') { 10 } else { 0 })
}

/// Why KVM cannot be used here; none if it can.
pub(crate) fn kvm_refusal() -> Option<&'static str> {
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        let missing = error.kind() == io::ErrorKind::NotFound;
        return Some(if missing { "there is no /dev/kvm" } else { "/dev/kvm may not be opened by this user" });
    }
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualises = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    (!virtualises).then_some("the CPU shows neither vmx nor svm")
}

/// The firmware's code, where Debian, Fedora, Arch, SUSE and Homebrew put it. Its variables live in memory.
pub(crate) fn uefi_code() -> Option<PathBuf> {
    [
        "/usr/share/OVMF/OVMF_CODE.fd", // where there is a choice, the small one starts faster
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/edk2-x86_64-code.fd",
        "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
        "/usr/local/share/qemu/edk2-x86_64-code.fd",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::{Accel, Firmware, Machine, memory_size};

    #[test]
    fn a_memory_size_is_a_number_with_a_unit() {
        assert!(["64M", "1G", "4096M"].iter().all(|text| memory_size(text).is_ok()));
        assert!(
            ["", "64", "M", "0G", "-1M", "64m", "64MB", "1.5G", "9999999999G"].iter().all(|s| memory_size(s).is_err())
        );
    }

    #[test]
    fn a_machine_with_too_little_memory_to_start_is_refused() {
        let options =
            |mem: &str| Machine { firmware: Firmware::Bios, accel: Accel::Tcg, cpus: 1, mem: mem.into() }.options();
        assert!(["32M", "1G", "4294967295G"].iter().all(|mem| options(mem).is_ok()));
        assert_eq!(options("31M").map_err(|error| error.contains("32M is the least")), Err(true));
    }
}
