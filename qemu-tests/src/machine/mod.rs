//! What only a machine has: page tables, ACPI's tables, a watchdog, interrupts that nobody sent, stacks that are none,
//! frames that can be refused.

mod faults;
mod frames;
mod permissions;
mod tables;
mod watchdog;
