//! A kernel of tests: what only a machine can show.
//!
//! A test is a function with `#[kernel_test]`; it passes by returning. A boot runs those that the host names, one after
//! another, and says on the report stream `@start NAME`, then `@ok NAME` or `@fail NAME: reason`, at the end `@done`. A panic
//! or an unexpected fault ends the boot; the host starts another for the tests that are left.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", feature(offset_of_enum))]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod canary;
#[cfg(target_os = "none")]
mod collector;
#[cfg(target_os = "none")]
mod dumps;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod interruptions;
#[cfg(target_os = "none")]
mod machine_exceptions;
#[cfg(target_os = "none")]
mod machine_permissions;
#[cfg(target_os = "none")]
mod panics;
#[cfg(target_os = "none")]
mod preemption;
#[cfg(target_os = "none")]
mod roots;
#[cfg(target_os = "none")]
mod roots_held;
#[cfg(target_os = "none")]
mod stacks;
#[cfg(target_os = "none")]
mod stepped_collections;
#[cfg(target_os = "none")]
mod stepped_slices;
#[cfg(target_os = "none")]
mod stepping;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod threads;
#[cfg(target_os = "none")]
mod verify;
#[cfg(target_os = "none")]
mod watchdog;

#[cfg(target_os = "none")]
mod kernel {
    use bootloader_api::{BootInfo, entry_point};
    use machine::testing::{self, KernelTest};
    use machine::{fw_cfg, report};

    entry_point!(boot, config = &machine::BOOT_CONFIG);

    const LIST_FILE: &str = "opt/org.tricolor/tests";
    const LONGEST_LIST: usize = 1 << 20;

    fn boot(info: &'static mut BootInfo) -> ! {
        machine::start(info, run)
    }

    /// Runs the tests of the list; without a list, all of them.
    fn run(_line: &'static str) -> u8 {
        let list = fw_cfg::read(LIST_FILE, LONGEST_LIST).and_then(|list| str::from_utf8(list).ok()).unwrap_or("");
        if list.trim().is_empty() {
            all().iter().for_each(testing::run);
        }
        for name in list.split_whitespace() {
            match all().iter().find(|test| test.name == name) {
                Some(test) => testing::run(test),
                None => report!("@fail {name}: there is no such test in this kernel"),
            }
        }
        report!("@done");
        0
    }

    /// Every `#[kernel_test]` in this binary, in link order.
    fn all() -> &'static [KernelTest] {
        unsafe extern "C" {
            static __start_tests: [u8; 0];
            static __stop_tests: [u8; 0];
        }
        let (start, stop) = (&raw const __start_tests, &raw const __stop_tests);
        let count = (stop.addr() - start.addr()) / size_of::<KernelTest>();
        // SAFETY: the linker puts these two around the section, and all that is in it are the attribute's entries.
        unsafe { core::slice::from_raw_parts(start.cast(), count) }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
