//! From the machine to the program: sets the runtime up and becomes the main thread.
//!
//! Unsafe here: once, in this order.
#![allow(unsafe_code)]

use crate::addr::Range;
use crate::platform::{Platform, platform, set_platform};
use crate::settings::Settings;
use crate::{collections, cpu, fatal, gc, report, sched, stack};
use spin::Once;

/// What the machine hands over.
#[derive(Clone, Copy)]
pub struct Start {
    /// Settings, program, arguments; see [`crate::settings`].
    pub command_line: &'static str,
    /// The stack that the caller runs on becomes the CPU's own.
    pub system_stack: Range,
    /// The parts of the address space by name, in order of address.
    pub address_plan: &'static [(&'static str, Range)],
    /// The main thread's function. It gets what follows the settings; its result is the kernel's status.
    pub main: fn(&'static str) -> u8,
}

struct Main {
    function: fn(&'static str) -> u8,
    line: &'static str,
    address_plan: &'static [(&'static str, Range)],
}

/// The parts of the address space by name, in order of address.
pub fn address_plan() -> &'static [(&'static str, Range)] {
    MAIN.get().map_or(&[], |main| main.address_plan)
}

#[unsafe(link_section = ".data.runtime")]
static MAIN: Once<Main> = Once::new();

/// Starts the runtime; `start.main` runs as thread 1, and when it returns the machine ends with its status.
///
/// # Safety
/// Once, on the boot CPU, with interrupts off, on `start.system_stack`; nobody else uses GS, the stack, or what
/// `platform` reserves.
pub unsafe fn start(platform: &'static dyn Platform, start: Start) -> ! {
    // 1. Which CPU this is, and who is under us: from here on messages and sections work.
    // SAFETY: the caller promises GS and the stack.
    unsafe { cpu::set_up(platform, start.system_stack) };
    set_platform(platform);
    // 2. What the user wants.
    let (settings, rest) = Settings::parse(start.command_line, &mut |warning| report!("{warning}"));
    fatal::set_traceback(settings.traceback);
    // 3. The heap's addresses, and the collector.
    gc::set_up(&settings);
    // 4. What is left to chance.
    collections::set_up(settings.random_seed.unwrap_or_else(|| platform.random()));
    // 5. Stacks and threads.
    stack::set_up();
    sched::set_preemption(settings.preempts);
    MAIN.call_once(|| Main { function: start.main, line: rest, address_plan: start.address_plan });
    // 6. Thread 1. The first allocation is its.
    // SAFETY: the caller's promise; nothing has been allocated.
    unsafe { sched::start_main(enter_main) }
}

extern "sysv64" fn enter_main() -> ! {
    // SAFETY: first thing on the new thread.
    unsafe { sched::leave_first_section() };
    platform().set_interrupts(true);
    // What nobody caught has been reported.
    let status = sched::contain(|| MAIN.get().map_or(2, |main| (main.function)(main.line)));
    platform().exit(status.unwrap_or(2))
}
