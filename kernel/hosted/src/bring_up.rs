//! From `main` to the runtime's start, on one screen.

use core::arch::asm;
use core::ffi::CStr;
use core::fmt::Display;

use runtime::Start;
use runtime::addr::{Bytes, KIB, MIB, Range};
use runtime::platform::Platform;
use spin::Once;

use crate::console::report;
use crate::memory;
use crate::platform::{self, PROCESS};
use crate::{backtrace, clock, console, signals, unwind};

/// As much as a machine of `./x run`.
const USUAL_MEMORY: Bytes = Bytes(512 * MIB);
const STACK: Bytes = Bytes(256 * KIB);

#[unsafe(link_section = ".bss.runtime")]
static FOUND: Once<Found> = Once::new();

struct Found {
    command_line: &'static str,
    memory: Bytes,
    main: fn(&'static str) -> u8,
    system_stack: Range,
}

/// Starts the runtime, runs `main` as its first thread and ends with its status. What `main` gets are the words behind the
/// process's name that are no settings.
///
/// # Safety
/// Once, by the process's only thread; `words` are `main`'s.
#[rustfmt::skip]
pub unsafe fn start(count: i32, words: *mut *mut u8, main: fn(&'static str) -> u8) -> ! {
    console::open(variable(c"TRICOLOR_CONSOLE").is_some());
    let memory = variable(c"TRICOLOR_MEMORY").map_or(Some(USUAL_MEMORY), size);
    let Some(memory) = memory else { refuse(&"TRICOLOR_MEMORY is a number with M or G behind it") };
    if let Err(why) = memory::set_up(memory) { refuse(&why) }
    let Some(system_stack) = memory::cpu_stack(STACK) else { refuse(&"there is no memory for a stack") };
    // SAFETY: the caller's promise.
    let Some(command_line) = (unsafe { joined(count, words) }) else { refuse(&"the command line is not UTF-8") };
    FOUND.call_once(|| Found { command_line, memory, main, system_stack });
    // SAFETY: the stack is new. Nothing comes back to this one.
    unsafe {
        asm!("mov rsp, {stack}", "xor ebp, ebp", "push rbp", "jmp {go_on}", stack = in(reg) system_stack.end.0, go_on = sym go_on, options(noreturn))
    }
}

/// The second half, on the CPU's own stack.
#[rustfmt::skip]
extern "sysv64" fn go_on() -> ! {
    let found = FOUND.get().expect("`start` has set it");
    signals::start();        // handlers on a stack of their own; interrupts are off
    clock::start();          // the clock, and the timer's signal
    backtrace::load_names(); // our functions' names, if somebody gave them
    unwind::start();         // a panic finds its way back
    platform::hand_over();   // page faults are the runtime's from here on
    // SAFETY: called once, interrupts off, on a stack that the runtime may now have as its own; libc leaves GS alone.
    unsafe {
        runtime::start(&PROCESS, Start { command_line: found.command_line, system_stack: found.system_stack, address_plan: memory::address_plan(), main: main_thread })
    }
}

fn main_thread(line: &'static str) -> u8 {
    let found = FOUND.get().expect("`start` has set it");
    report!("tricolor: {} CPU, {} MiB, in a process", PROCESS.cpu_count(), found.memory.0 / MIB);
    (found.main)(line)
}

fn refuse(why: &dyn Display) -> ! {
    report!("tricolor: {why}");
    PROCESS.exit(2)
}

/// A variable of the environment.
pub(crate) fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: one thread, and nobody changes the environment, ever.
    let value = unsafe { libc::getenv(name.as_ptr()).as_ref() }?;
    // SAFETY: the environment's strings end with zero.
    Some(unsafe { CStr::from_ptr(value) })
}

fn size(text: &CStr) -> Option<Bytes> {
    let text = text.to_str().ok()?;
    let shift = match text.as_bytes().last()? {
        b'M' => 20,
        b'G' => 30,
        _ => return None,
    };
    let bytes = text[..text.len() - 1].parse::<usize>().ok()?.checked_mul(1 << shift)?;
    isize::try_from(bytes).is_ok().then_some(Bytes(bytes))
}

/// The words behind the process's name with spaces between them, in place: Linux lays them out one behind the other.
///
/// # Safety
/// `words` are `main`'s, and nobody else reads them.
unsafe fn joined(count: i32, words: *mut *mut u8) -> Option<&'static str> {
    let mut line: &[u8] = &[];
    for index in (1..count as usize).rev() {
        // SAFETY: there are `count` words.
        let word = unsafe { *words.add(index) };
        // SAFETY: each ends with zero.
        let length = unsafe { CStr::from_ptr(word.cast()) }.count_bytes();
        if !line.is_empty() {
            // SAFETY: the zero that ends the word.
            unsafe { *word.add(length) = b' ' };
        }
        let behind = if line.is_empty() { 0 } else { 1 + line.len() };
        // SAFETY: this word, and those behind it.
        line = unsafe { core::slice::from_raw_parts(word, length + behind) };
    }
    str::from_utf8(line).ok()
}
