//! How the runtime speaks and dies: a broken invariant stops everything and says what was expected and what was found.
//!
//! Unsafe here: one static in a section of its own.
#![allow(unsafe_code)]

use crate::cpu::SafepointsHeld;
use crate::platform::{Stream, platform};
use crate::report::dump;
use crate::settings::Traceback;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, Ordering};

/// Stops the machine: an invariant of the runtime does not hold. Go: `throw`.
///
/// The message says what was expected and what was found; file and line are added.
#[macro_export]
macro_rules! throw {
    ($($message:tt)+) => { $crate::fatal::throw(format_args!($($message)+), ::core::panic::Location::caller()) };
}

/// A line for the user on the report stream.
#[macro_export]
macro_rules! report {
    ($($message:tt)+) => { $crate::fatal::write_line($crate::platform::Stream::Report, format_args!($($message)+)) };
}

/// Prints to the program's stream. Go: `fmt.Print`.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::fatal::write($crate::platform::Stream::Program, format_args!($($text)*)) };
}

/// Prints a line to the program's stream. Go: `fmt.Println`.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)+) => { $crate::fatal::write_line($crate::platform::Stream::Program, format_args!($($text)+)) };
}

/// Collects a formatted text and hands it to the platform in as few pieces as possible. Needs no memory.
struct Console {
    to: Stream,
    buffer: [u8; 256],
    used: usize,
}

impl Console {
    /// On the CPU's own stack: an overflow in the midst of the console's work would leave it half done.
    fn flush(&mut self) {
        let held = SafepointsHeld::enter();
        held.on_system_stack(|| platform().write(self.to, &self.buffer[..self.used]));
        self.used = 0;
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.len() - self.used));
            self.buffer[self.used..self.used + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
        }
        Ok(())
    }
}

/// Prints to the console. Costs about a microsecond a byte on a serial line; takes no memory; may be called anywhere.
pub fn write(to: Stream, text: fmt::Arguments<'_>) {
    let mut console = Console { to, buffer: [0; 256], used: 0 };
    // An error can only come from a `Display` of the caller's; what it has printed so far still goes out.
    let _ = console.write_fmt(text);
    console.flush();
}

pub fn write_line(to: Stream, text: fmt::Arguments<'_>) {
    write(to, format_args!("{text}\n"));
}

#[unsafe(link_section = ".data.runtime")]
static TRACEBACK: AtomicU8 = AtomicU8::new(Traceback::Single as u8);

pub(crate) fn set_traceback(traceback: Traceback) {
    TRACEBACK.store(traceback as u8, Ordering::Relaxed);
}

/// A call chain that overflowed has no room for its own report.
fn on_system_stack(report: impl FnOnce()) {
    SafepointsHeld::enter().on_system_stack(report);
}

fn shows(whom: Traceback) -> bool {
    TRACEBACK.load(Ordering::Relaxed) >= whom as u8
}

/// What the current thread is doing, for an end that is its own: an overflow, a panic that nobody catches. GOTRACEBACK=none leaves
/// it out.
pub fn write_thread(rip: usize, rbp: usize) {
    if shows(Traceback::Single) {
        on_system_stack(|| dump::current(rip, rbp));
    }
}

/// What the threads are doing, for an end that is everybody's: an invariant that does not hold, an exception, a deadlock. `here` is the
/// code that found it, if it is anybody's. As in Go such an end shows all of them, unless GOTRACEBACK=none.
pub fn write_all_threads(here: Option<(usize, usize)>) {
    if shows(Traceback::Single) {
        on_system_stack(|| {
            here.inspect(|&(rip, rbp)| dump::current(rip, rbp));
            dump::others();
        });
    }
}

/// What an end shows that is the current thread's own but the program's too: a panic that nobody catches on the main thread.
pub(crate) fn write_thread_or_all(rip: usize, rbp: usize) {
    if shows(Traceback::All) { write_all_threads(Some((rip, rbp))) } else { write_thread(rip, rbp) }
}

#[doc(hidden)]
#[cold]
pub fn throw(message: fmt::Arguments<'_>, at: &core::panic::Location<'_>) -> ! {
    // A message that panics is everybody's end too.
    let _held = SafepointsHeld::enter();
    platform().set_interrupts(false);
    report!("fatal error: {message}\n\t{}:{}", at.file(), at.line());
    write_all_threads(Some(crate::cpu::here()));
    platform().exit(2)
}
