//! A panic: its own thread's affair, or, where there is no thread to unwind, everybody's end.

use core::panic::PanicInfo;

use runtime::platform::Platform;
use runtime::{fatal, testing, upcall};

use crate::console::report;
use crate::fault;
use crate::platform::{self, PROCESS};

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    upcall::panic(format_args!("{}", info.message()), info.location(), info.can_unwind());
    stop(info)
}

/// In a section, in a handler, on the system stack, or in the bring-up. The runtime has said nothing yet.
#[inline(never)]
fn stop(info: &PanicInfo<'_>) -> ! {
    let before = fault::dying();
    report!("panic: {}", info.message());
    if let Some(place) = info.location() {
        report!("\t{place}");
    }
    if before == 0 {
        report!("fatal error: a panic where nothing can be unwound");
        if platform::is_started() {
            let (rip, rbp): (usize, usize);
            // SAFETY: reads two registers.
            unsafe {
                core::arch::asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack))
            };
            fatal::write_all_threads(Some((rip, rbp)));
        }
        testing::fail(format_args!("{}", info.message()));
    }
    PROCESS.exit(2)
}
