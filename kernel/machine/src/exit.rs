//! The end: QEMU's exit port, and a halted CPU where there is none.

use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::{report, watchdog};

/// QEMU's `isa-debug-exit` device. QEMU ends with `(value << 1) | 1`, so 16 keeps our statuses apart from QEMU's own.
const EXIT_PORT: u16 = 0xf4;
const EXIT_BASE: u32 = 0x10;

/// How many deaths deep we are: a report that faults or panics is itself reported, twice.
#[unsafe(link_section = ".bss.runtime")]
static DYING: AtomicUsize = AtomicUsize::new(0);
const DEATHS: usize = 3;

/// Ends the machine with a status: 0 done, 1 the program failed, 2 a fatal error. A real machine is left halted.
pub fn exit(status: u8) -> ! {
    interrupts::disable();
    watchdog::stop();
    let mut port = Port::<u32>::new(EXIT_PORT);
    // SAFETY: under QEMU this ends the virtual machine; elsewhere nobody listens at the port.
    unsafe { port.write(EXIT_BASE + u32::from(status)) };
    report!("status {status}; the machine may be switched off");
    loop {
        hlt();
    }
}

/// Notes that a fatal report begins, and says how many had begun before. Ends the machine when it gets too many, so that a report
/// that itself dies comes to an end.
pub(crate) fn dying() -> usize {
    let before = DYING.fetch_add(1, Ordering::Relaxed);
    if before >= DEATHS {
        exit(2);
    }
    before
}
