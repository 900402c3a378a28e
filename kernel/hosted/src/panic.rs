//! A panic: its own thread's affair, or, where there is no thread to unwind, everybody's end.

use core::panic::PanicInfo;

use runtime::platform::Platform;
use runtime::{fatal, upcall};

use crate::console::report;
use crate::platform::{self, PROCESS};

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    upcall::panic(format_args!("{}", info.message()), info.location(), info.can_unwind());
    stop(info)
}

/// In a section, in a handler, on the system stack, or in the bring-up. The runtime has said nothing yet.
#[inline(never)]
fn stop(info: &PanicInfo<'_>) -> ! {
    report!("panic: {}", info.message());
    if let Some(place) = info.location() {
        report!("\t{place}");
    }
    report!("fatal error: a panic where nothing can be unwound");
    if platform::is_started() {
        fatal::write_all_threads(None);
    }
    PROCESS.exit(2)
}
