//! Faults on request, for tests: a handler that does as it is told, stacks that are none, interrupts of one's own, frames refused.

use core::arch::asm;
use core::sync::atomic::{AtomicPtr, Ordering};

use runtime::addr::Bytes;

use crate::gdt::{self, Slot};
use crate::memory::{self, PhysicalAddress};
use crate::{acpi, apic, trap, watchdog};

pub use crate::memory::refuse;

/// The interrupts that the kernel knows, and one that it does not.
pub const TIMER: u8 = trap::vector::TIMER as u8;
pub const SPURIOUS: u8 = trap::vector::SPURIOUS as u8;
pub const UNKNOWN: u8 = 0x55;

/// What is to be called in the provoked interrupt's handler, and in the timer's: null, or a `fn()`.
#[unsafe(link_section = ".bss.runtime")]
static CALLED: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
#[unsafe(link_section = ".bss.runtime")]
static AT_TICK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Calls `f` in an interrupt's handler, on its stack, interrupts off.
pub fn in_handler(f: fn()) {
    CALLED.store(f as *mut (), Ordering::Relaxed);
    // SAFETY: the vector has a gate, and its handler is the one below.
    unsafe { asm!("int {}", const trap::vector::PROVOKED) };
}

/// Calls `f` in the handler of the timer's next interrupt, wherever that finds the CPU.
pub fn at_next_tick(f: fn()) {
    AT_TICK.store(f as *mut (), Ordering::Relaxed);
}

pub(crate) fn handler() {
    call(&CALLED);
}

pub(crate) fn tick() {
    call(&AT_TICK);
}

fn call(stored: &AtomicPtr<()>) {
    let f = stored.swap(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: null, which is `None`, or what the two above stored: a `fn()`.
    let f = unsafe { core::mem::transmute::<*mut (), Option<fn()>>(f) };
    f.iter().for_each(|f| f());
}

/// The next page fault finds no stack: a double fault.
pub fn break_page_fault_stack() {
    gdt::break_stack(Slot::PageFault);
}

/// Page faults find their stack again.
pub fn mend_page_fault_stack() {
    gdt::mend_stack(Slot::PageFault);
}

/// The next double fault finds no stack: the machine resets.
pub fn break_double_fault_stack() {
    gdt::break_stack(Slot::DoubleFault);
}

/// Interrupts this CPU through its APIC.
pub fn interrupt_self(vector: u8) {
    apic::interrupt_self(vector);
}

/// A page of zeroes that stays, for tables as firmware makes them.
pub fn page_for_tables() -> Option<(PhysicalAddress, &'static mut [u8; 4096])> {
    let range = memory::reserve(Bytes(4096), 4096)?;
    memory::commit(range).ok()?;
    let bytes = core::ptr::with_exposed_provenance_mut::<[u8; 4096]>(range.start.0);
    // SAFETY: freshly reserved and committed, so nobody else's, and never given back; zeroed here.
    unsafe {
        bytes.write_bytes(0, 1);
        Some((memory::physical_address(range.start)?, &mut *bytes))
    }
}

/// Whether the tables to which this root pointer leads are in order; says what is wrong with them.
pub fn read_tables(rsdp: PhysicalAddress) -> bool {
    acpi::read(rsdp).is_some()
}

/// Starts the watchdog as at boot, on a machine with these tables.
pub fn start_watchdog(rsdp: PhysicalAddress) {
    watchdog::start(Some(rsdp));
}
