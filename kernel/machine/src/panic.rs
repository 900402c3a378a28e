//! A panic: its own thread's affair, or, where there is no thread to unwind, everybody's end.

use core::panic::PanicInfo;

use runtime::{fatal, testing, upcall};

use crate::{backtrace, exit, platform, report};

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    upcall::panic(format_args!("{}", info.message()), info.location(), info.can_unwind());
    stop(info)
}

/// In a section, in a handler, on the system stack, or in the bring-up. The runtime has said nothing yet.
#[inline(never)]
fn stop(info: &PanicInfo<'_>) -> ! {
    x86_64::instructions::interrupts::disable();
    let before = exit::dying();
    report!("panic: {}", info.message());
    if let Some(place) = info.location() {
        report!("\t{place}");
    }
    if before == 0 {
        report!("fatal error: a panic where nothing can be unwound");
        let (rip, rbp): (usize, usize);
        // SAFETY: reads two registers.
        unsafe {
            core::arch::asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack))
        };
        match platform::is_started() {
            true => fatal::write_all_threads(Some((rip, rbp))),
            false => backtrace::report(rip, rbp),
        }
        testing::fail(format_args!("{}", info.message()));
    }
    exit::exit(2)
}
