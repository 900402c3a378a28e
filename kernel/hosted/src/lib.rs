//! A Linux process as the machine under the runtime: for tests, for profilers, and for measuring beside Go on real silicon.
//!
//! | the machine                         | the process                                                        |
//! |-------------------------------------|--------------------------------------------------------------------|
//! | frames and page tables              | one mapping a zone, opened by `mprotect` ([`memory`])               |
//! | a page fault                        | SIGSEGV                                                            |
//! | the timer's interrupt               | SIGURG, Go's choice, from a POSIX timer of the thread's own ([`clock`]) |
//! | a trap's own stack (IST)            | an alternate stack; all our signals are blocked while it is in use ([`signals`]) |
//! | interrupts off                      | SIGURG blocked                                                     |
//! | GS by MSR                           | GS by `arch_prctl`; FS stays libc's                                |
//! | fw_cfg                              | the command line, and the environment below                        |
//! | the exit port                       | the exit status                                                    |
//!
//! A CPU is a thread of Linux's. The compiler uses vector registers and the red zone here, so a stopped thread's
//! references may lie in them: both are scanned.
//!
//! **Libc** is used for system calls. They run on green threads' stacks too, which is sound because those that we make
//! need next to no stack, are bound before `main` (`-z now`), and keep nothing in thread-locals but `errno`. Whatever
//! allocates, locks or keeps state is not called.
//!
//! **Environment**, set by `./x run --hosted`; all of it may be missing:
//!
//! - `TRICOLOR_MEMORY=512M`: the memory of the machine that this is
//! - `TRICOLOR_SYMBOLS=FILE`: names for backtraces
//! - `TRICOLOR_CONSOLE=1`: all output goes to standard output, reports between shift-out and shift-in as on the serial line. Else the
//!   program's output goes there, and reports to standard error.
//!
//! A crate that has a global allocator and a panic handler cannot be linked into programs of another kind, so all this exists only with
//! `--cfg hosted` (.cargo/hosted.toml).

#![cfg_attr(hosted, no_std)]
#![cfg_attr(hosted, feature(alloc_error_handler, panic_can_unwind))]
#![cfg(hosted)]

mod backtrace;
mod bring_up;
mod clock;
mod console;
mod fault;
mod global;
mod memory;
mod panic;
mod platform;
mod random;
mod signals;
#[path = "../../machine/src/unwind.rs"]
mod unwind;

pub use bring_up::start;

/// Makes `$main`, a `fn(&'static str) -> u8`, the process's main function.
#[macro_export]
macro_rules! entry_point {
    ($main:path) => {
        // SAFETY: a process has one `main`.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: i32, words: *mut *mut u8) -> ! {
            // SAFETY: libc calls this once, with what it got from Linux.
            unsafe { $crate::start(count, words, $main) }
        }
    };
}
