//! Runs tests one after another, and says how each ended.

use super::KernelTest;
use crate::Failure;
use crate::platform::Platform;
use crate::report;
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, Ordering};

#[unsafe(link_section = ".bss.runtime")]
static CURRENT: AtomicPtr<KernelTest> = AtomicPtr::new(core::ptr::null_mut());

/// What the runtime runs on, for tests that take memory from under it.
pub fn platform() -> &'static dyn Platform {
    crate::platform::platform()
}

/// Runs the tests with these names, one after another; without a name, all. `check` looks after each whether it leaves the platform as it
/// should. The kernel's status.
pub fn run(names: &str, check: fn() -> Result<(), String>) -> u8 {
    if names.is_empty() {
        all().iter().for_each(|test| run_one(test, check));
    }
    for name in names.split_whitespace() {
        match all().iter().find(|test| test.name == name) {
            Some(test) => run_one(test, check),
            None => report!("@fail {name}: there is no such test in this kernel"),
        }
    }
    report!("@done");
    0
}

/// Every `#[kernel_test]` in this binary, in link order.
fn all() -> &'static [KernelTest] {
    unsafe extern "C" {
        static __start_tests: [u8; 0];
        static __stop_tests: [u8; 0];
    }
    let (start, stop) = (&raw const __start_tests, &raw const __stop_tests);
    let count = (stop.addr() - start.addr()) / size_of::<KernelTest>();
    // SAFETY: the linker puts these two around the section, and all that is in it are the attribute's entries.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// Runs a test, between its `@start` and `@ok` lines, and then checks what it leaves behind. If it dies, its death names it.
fn run_one(test: &'static KernelTest, check: fn() -> Result<(), String>) {
    report!("@start {}", test.name);
    CURRENT.store(core::ptr::from_ref(test).cast_mut(), Ordering::Relaxed);
    match crate::contain(test.run) {
        Ok(()) => {}
        Err(Failure::Panicked(panic)) => {
            fail(format_args!("{panic} at {}", panic.place()));
            platform().exit(1);
        }
        Err(_) => platform().exit(2),
    }
    let heap = crate::inspect::check_heap();
    let rest = check();
    match (heap, rest) {
        (Err(broken), _) => fail(format_args!("it leaves the heap broken: {broken}")),
        (_, Err(broken)) => fail(format_args!("it leaves the platform broken: {broken}")),
        (Ok(()), Ok(())) => report!("@ok {}", test.name),
    }
    CURRENT.store(core::ptr::null_mut(), Ordering::Relaxed);
}

/// Says, if a test is running, that it has failed, and why, in one line.
pub fn fail(reason: fmt::Arguments<'_>) {
    // SAFETY: `run_one`, the only writer, stores a `&'static` or null.
    if let Some(test) = unsafe { CURRENT.load(Ordering::Relaxed).as_ref() } {
        report!("@fail {}: {}", test.name, OneLine(reason));
    }
}

struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Joined<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Joined<'_, '_> {
            fn write_str(&mut self, words: &str) -> fmt::Result {
                words.split_inclusive('\n').try_for_each(|line| match line.strip_suffix('\n') {
                    Some(line) => write!(self.0, "{line}; "),
                    None => self.0.write_str(line),
                })
            }
        }
        write!(Joined(f), "{}", self.0)
    }
}
