//! The bootable kernel: the machine, the runtime, and the program that the command line names, or the tour.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use bootloader_api::{BootInfo, entry_point};
    // Programs register themselves; a crate that nobody names is not linked.
    use programs as _;

    entry_point!(boot, config = &machine::BOOT_CONFIG);

    fn boot(info: &'static mut BootInfo) -> ! {
        machine::start(info, run)
    }

    fn run(line: &'static str) -> u8 {
        runtime::program::run(if line.is_empty() { "tour" } else { line })
    }
}

/// On the host there is nothing to boot; so the workspace can be checked as a whole.
#[cfg(not(target_os = "none"))]
fn main() {}
