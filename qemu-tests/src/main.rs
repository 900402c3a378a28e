//! A kernel of tests, for what the runtime does under a machine's interrupts and faults, or a process's signals.
//!
//! A test is a function with `#[kernel_test]`; it passes by returning. A boot runs those that its command line names, one after
//! another, and says on the report stream `@start NAME`, then `@ok NAME` or `@fail NAME: reason`, at the end `@done`. A panic
//! or an unexpected fault ends the boot; the host starts another for the tests that are left.
//!
//! The same source is a kernel for the machine and a process. What only one of them has is in [`machine`] and [`process`].

#![cfg_attr(any(target_os = "none", hosted), no_std, no_main)]
#![cfg_attr(any(target_os = "none", hosted), feature(offset_of_enum))]

#[cfg(any(target_os = "none", hosted))]
extern crate alloc;

#[cfg(any(target_os = "none", hosted))]
mod bad_use;
#[cfg(any(target_os = "none", hosted))]
mod canary;
#[cfg(any(target_os = "none", hosted))]
mod clock;
#[cfg(any(target_os = "none", hosted))]
mod collections;
#[cfg(any(target_os = "none", hosted))]
mod collector;
#[cfg(any(target_os = "none", hosted))]
mod dumps;
#[cfg(any(target_os = "none", hosted))]
mod exceptions;
#[cfg(any(target_os = "none", hosted))]
mod fast_path;
#[cfg(any(target_os = "none", hosted))]
mod freeing;
#[cfg(any(target_os = "none", hosted))]
mod huge_pages;
#[cfg(any(target_os = "none", hosted))]
mod interruptions;
#[cfg(target_os = "none")]
mod large_memory;
#[cfg(any(target_os = "none", hosted))]
mod large_objects;
#[cfg(target_os = "none")]
mod machine;
#[cfg(any(target_os = "none", hosted))]
mod panics;
#[cfg(any(target_os = "none", hosted))]
mod patterns;
#[cfg(any(target_os = "none", hosted))]
mod preemption;
#[cfg(hosted)]
mod process;
#[cfg(any(target_os = "none", hosted))]
mod released_pages;
#[cfg(any(target_os = "none", hosted))]
mod roots;
#[cfg(any(target_os = "none", hosted))]
mod roots_held;
#[cfg(target_os = "none")]
mod small_pages;
#[cfg(any(target_os = "none", hosted))]
mod stacks;
#[cfg(any(target_os = "none", hosted))]
mod statistics;
#[cfg(any(target_os = "none", hosted))]
mod stepped_collections;
#[cfg(any(target_os = "none", hosted))]
mod stepped_slices;
#[cfg(any(target_os = "none", hosted))]
mod stepping;
#[cfg(any(target_os = "none", hosted))]
mod sweeping;
#[cfg(any(target_os = "none", hosted))]
mod threads;
#[cfg(any(target_os = "none", hosted))]
mod tiny;
#[cfg(target_os = "none")]
mod unread;
#[cfg(any(target_os = "none", hosted))]
mod verify;

#[cfg(target_os = "none")]
mod kernel {
    use alloc::string::{String, ToString};
    use bootloader_api::{BootInfo, entry_point};
    use machine::memory;
    use runtime::{inspect, testing};

    entry_point!(boot, config = &machine::BOOT_CONFIG);

    fn boot(info: &'static mut BootInfo) -> ! {
        machine::start(info, |names| testing::run(names, check_frames))
    }

    fn check_frames() -> Result<(), String> {
        // SAFETY: the walk only reads.
        let walk = unsafe { inspect::standing_still(memory::check_frames) };
        walk.map(drop).map_err(|broken| broken.to_string())
    }
}

#[cfg(hosted)]
mod kernel {
    hosted::entry_point!(run);

    fn run(names: &'static str) -> u8 {
        runtime::testing::run(names, || Ok(()))
    }
}

#[cfg(not(any(target_os = "none", hosted)))]
fn main() {}
