//! What a trap leads to: the runtime's answer, or a report and the end.
//!
//! A page fault is asked of the runtime first: a stack that grows faults all day. What the runtime does not know is a bug (or a
//! test that provokes it: [`testing::leave`]).

use core::sync::atomic::{AtomicU64, Ordering};

use runtime::addr::{Address, Range};
use runtime::exception::{self, EXECUTE, PRESENT, WRITE};
use runtime::platform::{Fault, Registers, Verdict};
use runtime::{fatal, testing, upcall};
use x86_64::registers::control::{Cr2, Cr3};

use crate::memory::plan;
use crate::watchdog::{self, Meaning};
use crate::{apic, backtrace, exit, gdt, platform, report};

/// Vector numbers: the CPU's (SDM Vol. 3 §6.3.1), then ours.
pub(crate) mod vector {
    pub(crate) const DEBUG: usize = 1;
    pub(crate) const NMI: usize = 2;
    pub(crate) const DOUBLE_FAULT: usize = 8;
    pub(crate) const PAGE_FAULT: usize = 14;
    pub(crate) const MACHINE_CHECK: usize = 18;
    /// The masked 8259s'.
    pub(crate) const OLD: core::ops::Range<usize> = 0x20..0x30;
    pub(crate) const TIMER: usize = 0x40;
    /// For tests that want to be in a handler.
    #[cfg(feature = "switch-off")]
    pub(crate) const PROVOKED: usize = 0x60;
    pub(crate) const SPURIOUS: usize = 0xff;
}

/// The interrupts that somebody was told of.
#[unsafe(link_section = ".bss.runtime")]
static REPORTED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// RFLAGS.IF.
const INTERRUPTS: usize = 1 << 9;

/// Every stub comes here, on the vector's own stack, interrupts off.
pub(crate) extern "C" fn trap(registers: &mut Registers) {
    upcall::in_handler(|| dispatch(registers));
}

fn dispatch(registers: &mut Registers) {
    match registers.vector {
        vector::PAGE_FAULT => page_fault(registers),
        vector::NMI => non_maskable(registers),
        vector::DEBUG if testing::stepped(registers, Range::EMPTY) => {}
        0..32 => unexpected_exception(registers, None),
        vector::TIMER => {
            apic::end_of_interrupt();
            watchdog::feed();
            #[cfg(feature = "switch-off")]
            crate::provoke::tick();
            if apic::timer_is_due() {
                // SAFETY: this is the handler, and these are the registers.
                unsafe { upcall::timer(registers, Range::EMPTY) };
                watchdog::feed();
            }
        }
        // A real one wants no answer; somebody's interrupt of that number would block all others without.
        vector::SPURIOUS => answer(vector::SPURIOUS),
        #[cfg(feature = "switch-off")]
        vector::PROVOKED => crate::provoke::handler(),
        number => unexpected_interrupt(number),
    }
}

fn page_fault(registers: &mut Registers) {
    // Read before anything that could fault again.
    let address = Address(Cr2::read_raw() as usize);
    let code = registers.error_code;
    let fault = Fault { address, write: code & WRITE != 0, execute: code & EXECUTE != 0, present: code & PRESENT != 0 };
    // A fault of this handler itself would lead here for ever.
    let ask = platform::is_started() && !gdt::on_page_fault_stack(registers.rsp);
    // SAFETY: this is the handler, and these are the registers.
    if !ask || unsafe { upcall::page_fault(fault, registers) } == Verdict::Fatal {
        unexpected_exception(registers, Some(address));
    }
}

/// The watchdog's, or one that nobody explains: the first of those is reported.
fn non_maskable(registers: &Registers) {
    match watchdog::judge(registers.rflags & INTERRUPTS != 0) {
        Meaning::Late | Meaning::Foreign(1..) => {}
        Meaning::Foreign(0) => {
            report!("warning: a non-maskable interrupt that is not the watchdog's; later ones are only counted");
            print(registers, None);
            backtrace::report(registers.rip, registers.rbp);
        }
        Meaning::Stuck { ms } => {
            exit::dying();
            let off = if registers.rflags & INTERRUPTS == 0 { "off" } else { "on" };
            let sections = upcall::occupation().sections;
            report!("fatal error: CPU 0 has taken no interrupt for {ms} ms");
            report!("interrupts are {off}, no-safepoint sections: {sections}, stack: {}", stack(registers.rsp));
            print(registers, None);
            write_threads(registers);
            testing::fail(format_args!("stuck at {:#x}", registers.rip));
            exit::exit(2);
        }
    }
}

/// No reason to stop, but somebody should know, once for each number. Of the masked 8259s a line may ring once more: that is known.
fn unexpected_interrupt(number: usize) {
    answer(number);
    let bit = 1 << (number % 64);
    if !vector::OLD.contains(&number) && REPORTED[number / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        report!("warning: unexpected interrupt {number:#x}");
    }
}

/// Ends the interrupt if it came through the APIC.
fn answer(number: usize) {
    if apic::is_in_service(number) {
        apic::end_of_interrupt();
    }
}

fn unexpected_exception(registers: &mut Registers, address: Option<Address>) {
    if testing::leave(registers, address) {
        return;
    }
    let name = exception::name(registers.vector);
    let before = exit::dying();
    if before > 0 {
        report!("another fault while reporting one: {name} at {:#x}", registers.rip);
        exit::exit(2);
    }
    match address {
        Some(address) => {
            report!("fatal error: {name}: {} {address} ({})", exception::deed(registers.error_code), place(address))
        }
        None => report!("fatal error: {name}"),
    }
    report!("CPU 0, stack: {}", stack(registers.rsp));
    print(registers, address);
    write_threads(registers);
    testing::fail(format_args!("{name} at {:#x}", registers.rip));
    exit::exit(2);
}

/// Whose stack it is that a stack pointer leads to: the next word goes below it.
fn stack(rsp: usize) -> &'static str {
    let address = Address(rsp.wrapping_sub(8));
    gdt::stack_name(address).unwrap_or_else(|| place(address))
}

/// The part of the address plan in which an address lies.
fn place(address: Address) -> &'static str {
    match plan::zones().iter().find(|zone| zone.range.contains(address)) {
        Some(zone) => zone.name,
        None if plan::DIRECT_MAP.contains(address) => "direct map",
        None if address >= plan::IMAGE => "image",
        None => "no part of the address plan",
    }
}

/// All registers.
fn print(registers: &Registers, address: Option<Address>) {
    let cr2 = address.map_or(Cr2::read_raw() as usize, |address| address.0);
    report!("{registers}");
    report!("cr2 {cr2:#018x}  cr3 {:#018x}", Cr3::read_raw().0.start_address());
}

/// What all threads were doing, or as long as there are none, what the boot was.
fn write_threads(registers: &Registers) {
    match platform::is_started() {
        true => fatal::write_all_threads(Some((registers.rip, registers.rbp))),
        false => backtrace::report(registers.rip, registers.rbp),
    }
}
