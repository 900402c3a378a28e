//! A fault: the runtime's answer, or a report and the end.

use libc::siginfo_t;
use runtime::addr::Address;
use runtime::platform::{Fault, Registers, Verdict};
use runtime::{fatal, upcall};

use crate::console::report;
use crate::platform::{self, PROCESS};
use crate::signals;
use runtime::platform::Platform;

const PAGE_FAULT: usize = 14;
/// Bits of a page fault's error code.
const PRESENT: usize = 1 << 0;
const WRITE: usize = 1 << 1;
const EXECUTE: usize = 1 << 4;

pub(crate) fn answer(info: &siginfo_t, registers: &mut Registers) {
    // SAFETY: the signal is a fault's, or somebody sent it: then the word is another, and harmless.
    let address = Address(unsafe { info.si_addr() }.addr());
    let code = registers.error_code;
    let fault = Fault { address, write: code & WRITE != 0, execute: code & EXECUTE != 0, present: code & PRESENT != 0 };
    let ask = info.si_code > 0
        && registers.vector == PAGE_FAULT
        && platform::is_started()
        && !signals::is_handlers_stack(registers.rsp);
    // SAFETY: this is the handler, and these are the registers.
    if !ask || unsafe { upcall::page_fault(fault, registers) } == Verdict::Fatal {
        report!("fatal error: signal {} at {address}, rip {:#x}", info.si_signo, registers.rip);
        fatal::write_all_threads(Some((registers.rip, registers.rbp)));
        PROCESS.exit(2);
    }
}
