//! The console: standard output and standard error, or both on one wire, with the marks of the machine's serial line between them.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{STDERR_FILENO, STDOUT_FILENO};
use runtime::platform::Stream;

const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;
/// A report goes out in pieces of this size, each with its marks in one system call, so that no other comes between.
const PIECE: usize = 256;

#[unsafe(link_section = ".bss.runtime")]
static IS_ONE_WIRE: AtomicBool = AtomicBool::new(false);

pub(crate) fn open(is_one_wire: bool) {
    IS_ONE_WIRE.store(is_one_wire, Relaxed);
    // SAFETY: no handler of ours is concerned. That a reader went away is found out by `write`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Anywhere. Waits for a slow reader.
pub(crate) fn write(to: Stream, bytes: &[u8]) {
    match (to, IS_ONE_WIRE.load(Relaxed)) {
        (Stream::Program, _) => send(STDOUT_FILENO, bytes),
        (Stream::Report, false) => send(STDERR_FILENO, bytes),
        (Stream::Report, true) => {
            for piece in bytes.chunks(PIECE) {
                let mut marked = [SHIFT_IN; PIECE + 2];
                marked[0] = SHIFT_OUT;
                marked[1..=piece.len()].copy_from_slice(piece);
                send(STDOUT_FILENO, &marked[..piece.len() + 2]);
            }
        }
    }
}

fn send(file: libc::c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the bytes are memory.
        match unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) } {
            sent @ 1.. => bytes = &bytes[sent as usize..],
            // SAFETY: this thread's own.
            _ if matches!(unsafe { *libc::__errno_location() }, libc::EINTR | libc::EAGAIN) => {}
            _ => return, // nobody reads any more
        }
    }
}

/// A report where the runtime may not have started, or may be broken; `report!` is how to call it.
pub(crate) fn write_report(words: fmt::Arguments<'_>) {
    struct Reports;
    impl Write for Reports {
        fn write_str(&mut self, words: &str) -> fmt::Result {
            write(Stream::Report, words.as_bytes());
            Ok(())
        }
    }
    // A formatter that fails has lost its own words only.
    let _ = Reports.write_fmt(words);
}

/// Prints a line to the report stream.
macro_rules! report {
    ($($words:tt)*) => { $crate::console::write_report(format_args!("{}\n", format_args!($($words)*))) };
}
pub(crate) use report;
