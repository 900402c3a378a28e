//! The console: COM1, one wire for the program's words and for ours; a machine without a host has it on its screen too.
//!
//! What the kernel reports goes between the bytes shift-out and shift-in; all else is the program's, byte for byte. The
//! reader on the other end takes the two apart again.
//!
//! Any context may write, a fault handler that interrupted a writer included. So the lock is tried for a while and then
//! passed by: words out of order are better than none. There is no memory behind the lock, only the wire: the driver's
//! value is a port number, made anew for each use.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use runtime::platform::Stream;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::interrupts::without_interrupts;

use crate::framebuffer;
use crate::watchdog;

const COM1: u16 = 0x3f8;
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;

/// How often a writer looks whether the one before it is done: longer than any piece takes under QEMU.
const PATIENCE: u32 = 100_000;

/// How often it asks the UART for room, at about a microsecond each: a reader may pause for some seconds. After that the
/// line is dead, and a kernel that is dying must still come to its end.
const LONG_PATIENCE: u32 = 10_000_000;

/// The program's words go out in pieces of this size, so that interrupts are never off for long.
const PIECE: usize = 256;

#[unsafe(link_section = ".bss.runtime")]
static PRESENT: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".bss.runtime")]
static BUSY: AtomicBool = AtomicBool::new(false);

/// Sets the line up. Without a UART only a screen shows what is written later.
pub(crate) fn open() {
    PRESENT.store(wire().is_some_and(|mut wire| wire.0.init(Config::default()).is_ok()), Ordering::Relaxed);
}

/// Sends bytes to the console. About a microsecond a byte under QEMU; never blocks for ever.
pub fn write(to: Stream, bytes: &[u8]) {
    match to {
        Stream::Program => bytes.chunks(PIECE).for_each(|piece| with_wire(|wire| wire.send(piece))),
        Stream::Report => with_wire(|wire| {
            wire.send(&[SHIFT_OUT]);
            wire.send(bytes);
            wire.send(&[SHIFT_IN]);
        }),
    }
}

/// One report, in one piece; `report!` is how to call it.
pub fn report(words: fmt::Arguments<'_>) {
    with_wire(|wire| {
        wire.send(&[SHIFT_OUT]);
        // A formatter that fails has lost its own words only.
        let _ = wire.write_fmt(words);
        wire.send(&[SHIFT_IN]);
    });
}

/// Prints a line to the report stream.
#[macro_export]
macro_rules! report {
    ($($words:tt)*) => { $crate::console::report(format_args!("{}\n", format_args!($($words)*))) };
}

struct Wire(Uart16550<uart_16550::backend::PioBackend>);

impl Wire {
    fn send(&mut self, mut bytes: &[u8]) {
        framebuffer::write(bytes);
        let mut patience = LONG_PATIENCE;
        while !bytes.is_empty() && PRESENT.load(Ordering::Relaxed) {
            match self.0.send_bytes(bytes) {
                0 if patience == 0 => PRESENT.store(false, Ordering::Relaxed),
                0 => {
                    patience -= 1;
                    // A slow reader is no stuck CPU.
                    if patience.is_multiple_of(1024) {
                        watchdog::feed();
                    }
                }
                sent => (bytes, patience) = (&bytes[sent..], LONG_PATIENCE),
            }
        }
    }
}

impl fmt::Write for Wire {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        self.send(words.as_bytes());
        Ok(())
    }
}

fn wire() -> Option<Wire> {
    // SAFETY: COM1's eight ports belong to this file alone, and a write to them touches no memory.
    unsafe { Uart16550::new_port(COM1) }.ok().map(Wire)
}

fn with_wire(use_it: impl FnMut(&mut Wire)) {
    watchdog::feed();
    without_interrupts(|| {
        let ours = (0..PATIENCE).any(|_| {
            core::hint::spin_loop();
            !BUSY.load(Ordering::Relaxed) && !BUSY.swap(true, Ordering::Acquire)
        });
        wire().iter_mut().for_each(use_it);
        if ours {
            BUSY.store(false, Ordering::Release);
        }
    });
}
