//! A fault: the runtime's answer, or a report and the end.
//!
//! A page fault is asked of the runtime first: a stack that grows faults all day. What the runtime does not know is a bug. SIGQUIT is no
//! fault, but ends the process with the same report, for somebody who wants to know where it hangs. Go: signal_unix.go, `sighandler`.

use core::sync::atomic::{AtomicUsize, Ordering};

use libc::siginfo_t;
use runtime::addr::Address;
use runtime::exception::{self, EXECUTE, PRESENT, WRITE};
use runtime::platform::{Fault, Platform, Registers, Verdict};
use runtime::{fatal, testing, upcall};

use crate::console::report;
use crate::platform::{self, PROCESS};
use crate::{memory, signals};

/// Codes of a SIGSEGV that is about an address (sigaction(2)); that of a general protection has another.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;

/// How many deaths deep we are: a report that faults or panics is itself reported, twice.
#[unsafe(link_section = ".bss.runtime")]
static DYING: AtomicUsize = AtomicUsize::new(0);
const DEATHS: usize = 3;

/// The signal's handler.
pub(crate) fn answer(info: &siginfo_t, registers: &mut Registers) {
    // What somebody has sent says nothing of the last fault.
    let is_fault = info.si_code > 0;
    let is_page_fault = info.si_signo == libc::SIGSEGV && matches!(info.si_code, SEGV_MAPERR | SEGV_ACCERR);
    // SAFETY: the signal is a fault's.
    let address = is_page_fault.then(|| Address(unsafe { info.si_addr() }.addr()));
    let code = registers.error_code;
    // A fault of the handler itself would lead here for ever.
    let asks = platform::is_started() && !signals::is_handlers_stack(registers.rsp);
    if let Some(address) = address.filter(|_| asks) {
        let fault =
            Fault { address, write: code & WRITE != 0, execute: code & EXECUTE != 0, present: code & PRESENT != 0 };
        // SAFETY: this is the handler, and these are the registers.
        if unsafe { upcall::page_fault(fault, registers) } == Verdict::Resume {
            return;
        }
    }
    if is_fault && testing::leave(registers, address) {
        return;
    }
    let name = exception::name(registers.vector);
    if dying() > 0 {
        report!("another fault while reporting one: {name} at {:#x}", registers.rip);
        PROCESS.exit(2);
    }
    match address {
        _ if !is_fault && info.si_signo == libc::SIGQUIT => report!("SIGQUIT: quit"),
        _ if !is_fault => report!("fatal error: somebody sent signal {}", info.si_signo),
        Some(address) => report!("fatal error: {name}: {} {address} ({})", exception::deed(code), place(address)),
        None => report!("fatal error: {name}"),
    }
    // The next word goes below it.
    report!("CPU 0, stack: {}\n{registers}", place(Address(registers.rsp.wrapping_sub(8))));
    if platform::is_started() {
        fatal::write_all_threads(Some((registers.rip, registers.rbp)));
    }
    testing::fail(format_args!("{name} at {:#x}", registers.rip));
    PROCESS.exit(2);
}

/// Notes that a fatal report begins, and says how many had begun before. Ends the process when it gets too many, so that a report
/// that itself dies comes to an end.
pub(crate) fn dying() -> usize {
    let before = DYING.fetch_add(1, Ordering::Relaxed);
    if before >= DEATHS {
        PROCESS.exit(2);
    }
    before
}

/// The part of the address plan in which an address lies.
fn place(address: Address) -> &'static str {
    let mut parts = memory::address_plan().iter();
    match parts.find(|(_, range)| range.contains(address)) {
        _ if signals::is_handlers_stack(address.0) => "handlers' stack",
        Some((name, _)) => name,
        None => "no part of the address plan",
    }
}
