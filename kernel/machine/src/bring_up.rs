//! From the boot loader's jump to the runtime's start, on one screen.

use core::fmt::Display;

use bootloader_api::{BootInfo, BootloaderConfig};
use runtime::Start;
use runtime::addr::{Bytes, MIB};
use runtime::platform::Platform;
use spin::Once;

use crate::memory::{self, Handover};
use crate::platform::{self, MACHINE};
use crate::{
    apic, backtrace, bulk, console, control, exit, framebuffer, fw_cfg, gdt, idt, report, tsc, unwind, watchdog,
};

/// What the boot loader is to do, for `entry_point!`.
pub const BOOT_CONFIG: BootloaderConfig = memory::LOADER_CONFIG;

#[unsafe(link_section = ".bss.runtime")]
static MAIN: Once<fn(&'static str) -> u8> = Once::new();
#[unsafe(link_section = ".bss.runtime")]
static FOUND: Once<Handover> = Once::new();

/// Brings the machine up, starts the runtime, runs `main` as its first thread and ends with its status.
#[rustfmt::skip]
pub fn start(info: &'static mut BootInfo, main: fn(&'static str) -> u8) -> ! {
    MAIN.call_once(|| main);
    console::open();         // a voice, so that what follows can complain
    control::set();          // CR0, CR4, EFER, whatever the firmware left
    gdt::load();             // our segments: the loader's lie in memory that is about to go
    idt::load();             // from here on a fault is reported
                             // page tables, frames, a stack of our own
    // SAFETY: called once, by the only CPU, with the loader's information as it came.
    unsafe { memory::take_over(info, go_on, refuse) }
}

/// The second half, on our own stack and page tables.
#[rustfmt::skip]
fn go_on(found: Handover) -> ! {
    gdt::give_stacks();      // for each kind of trap a stack, a guard page below it
    bulk::choose();          // how to copy
    tsc::start();            // the clock
    apic::start();           // the timer's interrupt
    backtrace::load_names(); // our functions' names, if the host gave them
    unwind::start();         // a panic finds its way back
    let command_line = fw_cfg::command_line();
    if let (None, Some(screen)) = (command_line, found.framebuffer) {
        framebuffer::open(screen); // nobody gave us anything, so nobody may be reading the wire either
    }
    platform::hand_over();   // page faults are the runtime's from here on
    let system_stack = found.stack;
    FOUND.call_once(|| found);
    // SAFETY: called once, interrupts off, on a stack that the runtime may now have as its own.
    unsafe {
        runtime::start(&MACHINE, Start { command_line: command_line.unwrap_or_default(), system_stack, address_plan: memory::address_plan(), main: main_thread })
    }
}

/// The first thread: the kernel is up and idle, so now its figures mean something.
fn main_thread(line: &'static str) -> u8 {
    let found = FOUND.get().expect("`go_on` has set it");
    watchdog::start(found.rsdp); // interrupts are on, and the timer ticks
    greet(found);
    MAIN.get().expect("`start` has set it")(line)
}

/// The machine is not one that we can run on.
fn refuse(why: &dyn Display) -> ! {
    report!("tricolor: {why}");
    exit::exit(2)
}

fn greet(found: &Handover) {
    let tenths = |bytes: Bytes| (bytes.0 * 10 + MIB / 2) / MIB;
    let (used, image) = (tenths(memory::frames_in_use()), tenths(found.image));
    let kilohertz = tsc::hertz() / 1000;
    report!(
        "tricolor: {} CPU, {} MiB, TSC {}.{} MHz, {}.{} MiB of frames in use beyond the {}.{} MiB image",
        MACHINE.cpu_count(),
        found.ram.0.div_ceil(MIB),
        kilohertz / 1000,
        kilohertz / 100 % 10,
        used / 10,
        used % 10,
        image / 10,
        image % 10,
    );
}
