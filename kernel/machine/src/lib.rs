//! x86_64 bare metal under the runtime: every privileged instruction is here.
//!
//! The whole bring-up, in order, is [`start`] and `go_on` below. What only a machine has is compiled for it alone; what parses and
//! decides (the memory map, frames, ACPI's tables, the directory of files) is also tested on the host.
//!
//! Interrupts may come at any time, so what runs in a handler touches atomics and this CPU's own records: it takes no lock
//! that the interrupted code may hold, and allocates nothing.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_os = "none", feature(alloc_error_handler, panic_can_unwind))]

pub mod acpi;
pub mod framebuffer;
pub mod fw_cfg;
pub mod memory;

#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
mod backtrace;
#[cfg(target_os = "none")]
mod bring_up;
#[cfg(any(target_os = "none", test))]
mod bulk;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod control;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
mod gdt;
#[cfg(target_os = "none")]
mod global;
#[cfg(target_os = "none")]
mod idt;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod platform;
#[cfg(all(target_os = "none", feature = "switch-off"))]
pub mod provoke;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod softmmu;
#[cfg(target_os = "none")]
mod trap;
#[cfg(target_os = "none")]
mod tsc;
#[cfg(target_os = "none")]
mod unwind;
#[cfg(target_os = "none")]
mod watchdog;

#[cfg(target_os = "none")]
pub use bring_up::{BOOT_CONFIG, start};
#[cfg(target_os = "none")]
pub use watchdog::foreign_nmis;
