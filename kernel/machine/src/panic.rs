//! A panic that nobody catches: the message, where it was, how it came to it, and the end.

use core::panic::PanicInfo;

use crate::{backtrace, exit, report, testing};

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let before = exit::dying();
    report!("panic: {}", info.message());
    if let Some(place) = info.location() {
        report!("\t{place}");
    }
    if before == 0 {
        let (rip, rbp): (usize, usize);
        // SAFETY: reads two registers.
        unsafe {
            core::arch::asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack))
        };
        backtrace::report(rip, rbp);
    }
    exit::exit(if testing::fail(format_args!("{}", info.message())) { 1 } else { 2 })
}
